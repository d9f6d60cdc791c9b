"""Fixtures of the ingest tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deltadex.engine import shared
from deltadex.settings import Settings


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of all tests of a module, so that they share an embedding process."""
    folder = tmp_path_factory.mktemp("data")
    yield folder
    shared.end_embedding_process(Settings(data_dir=folder))
