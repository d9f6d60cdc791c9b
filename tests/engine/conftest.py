"""Bases of every architecture, built once per test module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import language_models
from tests.language_models import Bases


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    """Return the folder of a base by its name in `language_models.MODELS`."""
    built: dict[str, Path] = {}

    def base(name: str) -> Path:
        if name not in built:
            built[name] = language_models.build_model(name, tmp_path_factory.mktemp("base"))
        return built[name]

    return base
