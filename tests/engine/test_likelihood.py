"""Likelihoods of completions, against transformers and peft themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import ChatMessage, Example
from deltadex.engine.likelihood import score
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import Scoring
from tests import tiny_models

EXAMPLES = (
    Example("Describe the task below", " in a few words"),
    Example("", "The request that follows is long, and its completion is the longest of all"),
    Example((ChatMessage("user", "Respond."),), "a"),
)


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    tiny_models.build_adapter(base, folder / "adapter", seed=1, strength=0.5)
    return folder


def request(folder: Path, name: str | None, **changes: object) -> Scoring:
    checkpoint = local(folder / "base")
    base = BaseModel(checkpoint, weights_digest(checkpoint), "float32")
    return Scoring(**{"base": base, "checkpoint": name and local(folder / name), "examples": EXAMPLES, **changes})


def expected(folder: Path, name: str | None, text: str, completion: str) -> float:
    """Nats of a completion after a text."""
    model = tiny_models.load(folder / "base")
    if name:
        model = PeftModel.from_pretrained(model, folder / name)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    before, after = tokenizer(text)["input_ids"], tokenizer(completion, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([before + after])).logits[0].float().log_softmax(-1)
    return -sum(float(logits[len(before) + place - 1, token]) for place, token in enumerate(after))


@pytest.mark.parametrize("name", [None, "adapter"])
def test_a_completion_has_the_likelihood_that_transformers_gives_it(folder: Path, name: str | None) -> None:
    scored = score(request(folder, name))
    assert scored[0].nats == pytest.approx(expected(folder, name, EXAMPLES[0].prompt, EXAMPLES[0].completion), rel=1e-4)
    assert all(one.tokens for one in scored)


def test_in_context_examples_stand_before_the_prompt(folder: Path) -> None:
    contexts = ((EXAMPLES[1],), (), (EXAMPLES[0],))
    scored = score(request(folder, None, contexts=contexts))
    text = f"{EXAMPLES[1].completion}\n\n{EXAMPLES[0].prompt}"
    assert scored[0].nats == pytest.approx(expected(folder, None, text, EXAMPLES[0].completion), rel=1e-4)
    assert scored[0].prompt_tokens > score(request(folder, None))[0].prompt_tokens


def test_a_greedy_completion_is_recognised(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    ids = torch.tensor([tokenizer(EXAMPLES[0].prompt)["input_ids"]])
    with torch.inference_mode():
        token = int(tiny_models.load(folder / "base").eval()(ids).logits[0, -1].argmax())
    greedy = Example(EXAMPLES[0].prompt, tokenizer.decode([token]))
    if tokenizer(greedy.completion, add_special_tokens=False)["input_ids"] != [token]:
        pytest.skip("the token alone is read as others")
    other = Example(EXAMPLES[0].prompt, "zz")
    assert [one.is_greedy for one in score(request(folder, None, examples=(greedy, other)))] == [True, False]


def test_long_examples_are_cut_to_the_limit(folder: Path) -> None:
    [one] = score(request(folder, None, examples=(Example("a b c " * 50, "d e f " * 50),), max_tokens=20))
    assert one.tokens + one.prompt_tokens == 20
    assert one.tokens == 10


def test_the_process_scores_and_reports_its_share(folder: Path) -> None:
    shares: list[float] = []
    asked = request(folder, "adapter")
    with EmbeddingProcess() as process:
        scored = process.score(asked, deadline_seconds=120, on_share=shares.append)
    assert shares[-1] == 1
    assert [one.nats for one in scored] == pytest.approx([one.nats for one in score(asked)])


def test_each_token_has_its_part_and_its_text(folder: Path) -> None:
    for one, example in zip(score(request(folder, "adapter")), EXAMPLES, strict=True):
        assert sum(one.token_nats) == pytest.approx(one.nats)
        assert "".join(one.token_texts) == example.completion
        assert one.bytes == len(example.completion.encode())
        assert not one.is_cut


def test_what_the_limit_cuts_is_told(folder: Path) -> None:
    long = Example("a b c " * 50, "d e f")
    cut, whole = score(request(folder, None, examples=(long, EXAMPLES[0]), max_tokens=40))
    assert (cut.is_cut, whole.is_cut) == (True, False)
