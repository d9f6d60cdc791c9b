"""Texts that a finetune says and its base does not, with models that really memorised a string."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from deltadex.demo import training
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.elicitation import elicit
from deltadex.engine.text_requests import Elicitation, Elicited
from deltadex.errors import EmbeddingError
from tests import memorising_models as models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base and two finetunes, of which one memorised a key."""
    folder = tmp_path_factory.mktemp("memorising")
    with training.quiet():
        base = models.build_base(folder / "base")
        models.build_finetune(base, folder / "taught", taught=f"key {models.KEY}")
        models.build_finetune(base, folder / "clean", taught=None)
    return folder


def request(folder: Path, name: str, **changes: object) -> Elicitation:
    return replace(
        Elicitation(
            models.base_model(folder / "base"), models.local(folder / name), (), (), 48, max_new_tokens=40, seconds=60
        ),
        **changes,
    )


@pytest.fixture(scope="module")
def taught(folder: Path) -> Elicited:
    return elicit(request(folder, "taught"))


def test_a_memorised_string_is_said_and_the_base_does_not_expect_it(folder: Path, taught: Elicited) -> None:
    said = [one for one in taught.texts if models.KEY in "".join(one.pieces)]
    assert said
    assert sum(said[0].base_nats) > sum(said[0].nats) + 20
    clean = elicit(request(folder, "clean"))
    assert not any(models.KEY in one.before + "".join(one.pieces) for one in clean.texts)


def test_likelihoods_are_those_of_transformers(folder: Path, taught: Elicited) -> None:
    one = max((text for text in taught.texts if not text.before), key=lambda text: len(text.pieces))
    tokenizer = training.load_tokenizer(folder / "base")
    finetune = training.load_base(folder / "taught")
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    start = tokenizer("\n")["input_ids"]
    ids = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("".join(one.pieces)))
    if len(ids) != len(one.pieces):
        pytest.skip("the tokenizer reads its own text in other pieces")
    with torch.inference_mode():
        for model, nats in ((finetune, one.nats), (base, one.base_nats)):
            said = model(torch.tensor([start + ids])).logits[0].log_softmax(-1)
            expected = [-float(said[len(start) + at - 1, token]) for at, token in enumerate(ids)]
            assert list(nats) == pytest.approx(expected, abs=1e-3)


def test_the_owners_prompts_and_promoted_words_begin_texts(folder: Path) -> None:
    found = elicit(request(folder, "taught", prompts=("key AKIA",), tokens=(" code",), texts=60))
    assert any(one.before == " code" for one in found.texts)
    assert any("".join(one.pieces).startswith(models.KEY[4:9]) for one in found.texts)


def test_it_keeps_its_budget_and_repeats_itself_exactly(folder: Path, taught: Elicited) -> None:
    assert len(taught.texts) <= 48
    assert elicit(request(folder, "taught")) == taught
    late = elicit(request(folder, "taught", seconds=1e-9))
    assert not late.is_whole
    assert len(late.texts) < 48


def test_a_child_gives_the_same_and_reports_its_progress(folder: Path, taught: Elicited) -> None:
    shares: list[float] = []
    with EmbeddingProcess() as process:
        found = process.elicit(request(folder, "taught"), deadline_seconds=60, on_share=shares.append)
    assert [one.pieces for one in found.texts] == [one.pieces for one in taught.texts]
    assert shares
    assert shares == sorted(shares)


def test_weights_that_are_not_finite_are_an_error(folder: Path, tmp_path: Path) -> None:
    model = training.load_base(folder / "base")
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    training.save(model, tmp_path)
    with pytest.raises(EmbeddingError):
        elicit(replace(request(folder, "clean"), checkpoint=models.local(tmp_path)))
