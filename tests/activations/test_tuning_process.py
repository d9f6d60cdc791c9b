"""An adapter trained on a few examples by a process of its own, which holds its deadline and says why it ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltadex.activations.delta import Base
from deltadex.activations.job import BaseModel, Finetune, Tuning
from deltadex.activations.tuning import tune as tune_here
from deltadex.activations.tuning_process import tune
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.layout import inspect
from deltadex.domain import Embedding
from deltadex.errors import Resource, Shortage, UnsupportedCheckpoint
from deltadex.examples import Example, Message
from tests import tiny_models

EXAMPLES = (Example("Respond.", "appropriately completes"), Example((Message("user", "Describe."),), "the task"))


@pytest.fixture(scope="module")
def tuning(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    folder = tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")
    base = inspect(LocalFiles(folder)).fetch()
    return Tuning(BaseModel(base, weights_digest(base), "float32"), EXAMPLES, steps=3, learning_rate=1e-3)


def adapter(folder: Path) -> Finetune:
    checkpoint = inspect(LocalFiles(folder)).fetch()
    return Finetune(checkpoint, weights_digest(checkpoint))


def test_equal_examples_and_seeds_give_equal_adapters_that_embed_like_any(tuning: Tuning, tmp_path: Path) -> None:
    child, here, other = (tmp_path / name for name in ("child", "here", "other"))
    child.mkdir()
    done: list[int] = []
    tune(tuning, child, deadline_seconds=300, on_step=done.append)
    assert done == [1, 2, 3]
    assert list(tune_here(tuning, here)) == done
    assert list(tune_here(replace(tuning, seed=1), other)) == done
    one, same, different = map(adapter, (child, here, other))
    assert one.weights_digest == same.weights_digest != different.weights_digest
    outcomes = dict(Base(tuning.base).embed([one, different]))
    first, second = outcomes[0], outcomes[1]
    assert isinstance(first, Embedding)
    assert isinstance(second, Embedding)
    assert first.strength > 0.01
    assert not np.array_equal(first.vector, second.vector)


def test_the_deadline_holds(tuning: Tuning, tmp_path: Path) -> None:
    with pytest.raises(Shortage, match=r"longer than 0\.5 s") as late:
        tune(tuning, tmp_path, deadline_seconds=0.5)
    assert late.value.resource is Resource.TIME


def test_an_error_of_the_child_arrives_as_what_it_is(tuning: Tuning, tmp_path: Path) -> None:
    adapter = tiny_models.build_adapter(tuning.base.checkpoint.folder, tmp_path / "adapter")
    no_base = replace(tuning, base=replace(tuning.base, checkpoint=inspect(LocalFiles(adapter)).fetch()))
    with pytest.raises(UnsupportedCheckpoint, match="cannot build"):
        tune(no_base, tmp_path, deadline_seconds=120)
