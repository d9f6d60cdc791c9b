"""Few-shot training in the embedding process: results, deadline and errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.adapter_requests import Tuning
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.delta import Base
from deltadex.engine.examples import ChatMessage, Example
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.engine.tuning import tune
from deltadex.errors import Resource, Shortage, UnsupportedCheckpoint
from deltadex.types import Embedding
from tests import tiny_models

EXAMPLES = (Example("Respond.", "appropriately completes"), Example((ChatMessage("user", "Describe."),), "the task"))


@pytest.fixture(scope="module")
def tuning(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    folder = tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")
    base = inspect(LocalFiles(folder)).fetch()
    return Tuning(BaseModel(base, weights_digest(base), "float32"), EXAMPLES, folder, steps=3, learning_rate=1e-3)


@pytest.fixture(scope="module")
def process() -> Iterator[EmbeddingProcess]:
    with EmbeddingProcess() as process:
        yield process


def adapter(folder: Path) -> Finetune:
    checkpoint = inspect(LocalFiles(folder)).fetch()
    return Finetune(checkpoint, weights_digest(checkpoint))


def test_equal_examples_and_seeds_give_equal_adapters_that_embed_like_any(
    process: EmbeddingProcess, tuning: Tuning, tmp_path: Path
) -> None:
    child, here, other = (tmp_path / name for name in ("child", "here", "other"))
    child.mkdir()
    done: list[int] = []
    process.tune(replace(tuning, folder=child), deadline_seconds=300, on_step=done.append)
    assert done == [1, 2, 3]
    assert list(tune(replace(tuning, folder=here))) == done
    assert list(tune(replace(tuning, folder=other, seed=1))) == done
    one, same, different = map(adapter, (child, here, other))
    assert one.weights_digest == same.weights_digest != different.weights_digest
    outcomes = dict(Base(tuning.base).embed([one, different]))
    first, second = outcomes[0], outcomes[1]
    assert isinstance(first, Embedding)
    assert isinstance(second, Embedding)
    assert first.strength > 0.01
    assert not np.array_equal(first.vector, second.vector)


def test_the_deadline_holds(process: EmbeddingProcess, tuning: Tuning, tmp_path: Path) -> None:
    with pytest.raises(Shortage, match=r"longer than 0\.001 s") as late:
        process.tune(replace(tuning, folder=tmp_path), deadline_seconds=0.001)
    assert late.value.resource is Resource.TIME


def test_an_error_of_the_child_keeps_its_class(process: EmbeddingProcess, tuning: Tuning, tmp_path: Path) -> None:
    adapter = tiny_models.build_adapter(tuning.base.checkpoint.folder, tmp_path / "adapter")
    no_base = replace(tuning, base=replace(tuning.base, checkpoint=inspect(LocalFiles(adapter)).fetch()))
    with pytest.raises(UnsupportedCheckpoint, match="cannot build"):
        process.tune(no_base, deadline_seconds=120)
