"""GPU results compared with CPU results; skipped without a GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.types import Embedding
from tests import tiny_models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def embedded(base: Path, finetunes: list[Path], device: str) -> list[Embedding]:
    engine = Base(BaseModel(inspect(LocalFiles(base)).fetch(), "base", "float32", device=device))
    outcomes = dict(engine.embed([Finetune(inspect(LocalFiles(one)).fetch(), one.name) for one in finetunes]))
    return [outcomes[number] for number in range(len(finetunes))]


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, list[Path]]:
    base = tiny_models.build_base(tmp_path / "base")
    full = tiny_models.build_full_finetune(base, tmp_path / "full")
    return base, [full, *(tiny_models.build_adapter(base, tmp_path / f"adapter{n}") for n in range(3))]


def test_a_gpu_gives_the_same_result_as_a_cpu(models: tuple[Path, list[Path]]) -> None:
    for ours, theirs in zip(embedded(*models, "cuda"), embedded(*models, "cpu"), strict=True):
        assert np.linalg.norm(ours.vector - theirs.vector) <= 1e-3 * theirs.norm


def test_gpu_results_are_deterministic_and_independent_of_neighbours(models: tuple[Path, list[Path]]) -> None:
    base, finetunes = models
    together = embedded(base, finetunes, "cuda")
    for number, finetune in enumerate(finetunes):
        [alone] = embedded(base, [finetune], "cuda")
        np.testing.assert_array_equal(alone.probe_deltas, together[number].probe_deltas)
