"""Effect of augmentation, measured on a tiny base by real trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltadex.augment.effect import FRAME, Effect, Trials, effect_of, in_frame
from deltadex.augment.local import augment_locally
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine import tuning
from deltadex.engine.adapter_requests import Tuning
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import ChatMessage, Example
from deltadex.engine.requests import BaseModel
from deltadex.replay.agreement import Estimate
from tests import tiny_models

EXAMPLES = tuple(
    Example(f"What is {word}?", "the task below")
    for word in ("request", "completion", "instruction", "response", "input", "output")
)
HELD_OUT = (Example("What is task?", "the task below"), Example("Who wins?", "appropriately completes the request"))


def test_augmentation_moves_the_embedding_and_the_score_is_paired(tmp_path: Path) -> None:
    checkpoint = inspect(LocalFiles(tiny_models.build_base(tmp_path / "base"))).fetch()
    base = BaseModel(checkpoint, weights_digest(checkpoint), "float32", words=False)
    request = Tuning(base, (), tmp_path / "adapters", steps=8, learning_rate=3e-4, max_tokens=64)
    done: list[int] = []
    with EmbeddingProcess() as process:
        trials = Trials(process, request, 300)
        augmented = effect_of(trials, augment_locally(EXAMPLES), HELD_OUT, on_step=done.append)
        equal = effect_of(trials, augment_locally(EXAMPLES, at_most_each=0), HELD_OUT)
    assert done == list(range(1, 25))
    assert augmented.similarity < 0.999
    assert augmented.gain.value == pytest.approx(augmented.without.value - augmented.augmented.value)
    assert augmented.without.value < augmented.base.value, "so that something was learned"
    assert augmented.held_out == 2
    assert equal.similarity == pytest.approx(1)
    assert equal.gain == Estimate(0, 0, 0)
    assert equal.reseeded_similarity == pytest.approx(augmented.reseeded_similarity)
    assert "Fewer than 30" in augmented.verdict


def effect(similarity: float, low: float, high: float, held_out: int = 40) -> Effect:
    one = Estimate(1, 1, 1)
    return Effect(similarity, 0.9, held_out, one, one, one, Estimate((low + high) / 2, low, high))


def test_the_verdict_says_how_much_the_numbers_carry() -> None:
    assert effect(0.8, 0.1, 0.3).verdict == (
        "Augmentation moves the task embedding more than another seed does (similarity 0.800 against 0.900). "
        "On 40 held-out examples it gains +0.200 nats per token (95% interval +0.100 to +0.300)."
    )
    assert "does not move" in effect(0.95, 0.1, 0.3).verdict
    assert "may be chance" in effect(0.8, -0.1, 0.3).verdict
    assert "show little" in effect(0.8, 0.1, 0.3, held_out=5).verdict


def test_examples_are_scored_as_training_reads_them() -> None:
    assert in_frame(Example("Do it", "done")) == Example("### Text:\nDo it\n", "done")
    turns = (ChatMessage("system", "Be brief."), ChatMessage("user", "Do it"))
    assert in_frame(Example(turns, "done")) == Example("### Text:\nBe brief.\n\nDo it\n", "done")
    assert FRAME.startswith(tuning._HEADER)
