"""Search of weights, against losses that transformers and peft compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.adapter_requests import WeightSearch
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import Example
from deltadex.engine.requests import BaseModel
from deltadex.engine.weight_search import BOUND, PENALTY, search
from tests import tiny_models

TEXTS = ("Below is an instruction", "Write a response", "The task described", "Provide a description", "a request")


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and adapters that one was trained for the texts, and others that are random."""
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    model = tiny_models.attach_adapter(base, seed=1, targets=tiny_models.ALL_LINEAR, strength=0.01)
    tokenizer = AutoTokenizer.from_pretrained(base)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    for _ in range(15):
        for text in TEXTS:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(str(folder / "trained"))
    for number in range(2):
        tiny_models.build_adapter(base, folder / f"random{number}", seed=number + 5, strength=0.3)
    return folder


def request(models: Path, **changes: object) -> WeightSearch:
    checkpoint = local(models / "base")
    base = BaseModel(checkpoint, weights_digest(checkpoint), "float32")
    adapters = tuple(local(models / name) for name in ("random0", "trained", "random1"))
    examples = tuple(Example("", text) for text in TEXTS)
    return WeightSearch(
        **{
            "base": base,
            "adapters": adapters,
            "examples": examples[:3],
            "held_out": examples[3:],
            "budget": 24,
            **changes,
        }
    )


def nats(models: Path, name: str | None, texts: tuple[str, ...]) -> float:
    model = tiny_models.load(models / "base")
    if name:
        model = PeftModel.from_pretrained(model, models / name)
    tokenizer, total, tokens = AutoTokenizer.from_pretrained(models / "base"), 0.0, 0
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]
        with torch.inference_mode():
            said = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= sum(float(said[place - 1, ids[place]]) for place in range(1, len(ids)))
        tokens += len(ids) - 1
    return total / tokens


def test_the_trained_adapter_gets_the_weight_and_losses_are_those_of_the_models(models: Path) -> None:
    tried: list[int] = []
    done = search(request(models), on_tried=tried.append)
    assert done.base.nats == pytest.approx(nats(models, None, TEXTS[:3]), rel=1e-4)
    assert done.singles[1].nats == pytest.approx(nats(models, "trained", TEXTS[:3]), rel=1e-4)
    assert done.singles[0].held_out_nats == pytest.approx(nats(models, "random0", TEXTS[3:]), rel=1e-4)
    weights = done.found.weights
    assert weights[1] == max(weights)
    assert weights[1] > 0.5
    assert all(abs(one) <= BOUND for one in weights)
    assert done.tried == 24
    assert tried == sorted(tried)


def test_what_is_found_is_never_worse_than_what_was_tried_first(models: Path) -> None:
    done = search(request(models, budget=1))
    objective = {one: one.nats + PENALTY * sum(map(abs, one.weights)) / 3 for one in (done.base, done.equal)}
    assert done.found.nats + PENALTY * sum(map(abs, done.found.weights)) / 3 <= min(objective.values()) + 1e-6
    assert done.tried == 5


def test_the_search_repeats_in_a_child_with_its_progress(models: Path) -> None:
    shares: list[float] = []
    with EmbeddingProcess(threads=1) as process:
        one = process.search_weights(request(models), deadline_seconds=120, on_share=shares.append)
        other = process.search_weights(request(models), deadline_seconds=120)
    assert one.found.weights == pytest.approx(other.found.weights, abs=1e-6)
    assert shares
    assert max(shares) <= 1


def test_without_held_out_examples_there_is_no_second_loss(models: Path) -> None:
    assert search(request(models, held_out=(), budget=6)).found.held_out_nats is None
