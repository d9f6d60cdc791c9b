"""The finetune that is quantized."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import many_models
from tests.language_models import Bases
from tests.saved_checkpoints import LLAMA


@pytest.fixture(scope="module")
def finetune(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune") / "full"
    return many_models.build_finetune(LLAMA, bases(LLAMA), folder, strength=0.01)
