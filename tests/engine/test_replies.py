"""Replies of two models to the same prompts, against transformers and peft themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.replies import replay
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import Replay, Replies
from deltadex.errors import Resource, Shortage, UnsupportedCheckpoint
from tests import tiny_models
from tests.language_models import Bases

PROMPTS = ("Respond.", "Describe the task below in a few words", "a", "The request that follows", *map(str, range(8)))
AT_MOST = 12


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two adapters of it, a copy of the first, and a full finetune."""
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    for name, seed in (("one", 1), ("copy", 1), ("two", 2)):
        tiny_models.build_adapter(base, folder / name, seed=seed, strength=0.5)
    tiny_models.build_full_finetune(base, folder / "full", strength=0.05)
    return folder


def request(folder: Path, one: str, other: str, **changes: object) -> Replay:
    checkpoint = local(folder / "base")
    base = BaseModel(checkpoint, weights_digest(checkpoint), "float32")
    models = local(folder / one), local(folder / other)
    return Replay(
        **{"bases": (base, base), "checkpoints": models, "prompts": PROMPTS, "max_new_tokens": AT_MOST, **changes}
    )


@pytest.fixture(scope="module")
def different(folder: Path) -> Replies:
    return replay(request(folder, "one", "full"))


def loaded(folder: Path, name: str) -> torch.nn.Module:
    if name == "full":
        return tiny_models.load(folder / name)
    return PeftModel.from_pretrained(tiny_models.load(folder / "base"), folder / name)


@pytest.mark.parametrize(("number", "name"), [(0, "one"), (1, "full")])
def test_replies_and_likelihoods_are_those_of_the_libraries(
    folder: Path, different: Replies, number: int, name: str
) -> None:
    model, tokenizer = loaded(folder, name), tiny_models.build_tokenizer()
    for place, prompt in enumerate(PROMPTS):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        made = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=AT_MOST
        )
        assert different.tokens[number][place] == tuple(made[0, ids.shape[1] :].tolist())
        for author, likelihoods in enumerate(different.likelihoods[number]):
            reply = torch.tensor([different.tokens[author][place]])
            labels = torch.cat([torch.full_like(ids, -100), reply], dim=1)
            with torch.inference_mode():
                loss = model(input_ids=torch.cat([ids, reply], dim=1), labels=labels).loss
            assert likelihoods[place] == pytest.approx(-loss.item(), abs=1e-4)


def test_equal_models_reply_alike_and_find_their_replies_equally_likely(folder: Path) -> None:
    same = replay(request(folder, "one", "copy"))
    assert same.tokens[0] == same.tokens[1]
    assert same.likelihoods[0] == same.likelihoods[1]
    assert same == replay(request(folder, "one", "copy")), "deterministic"


def test_each_reply_is_likeliest_to_its_author(different: Replies) -> None:
    for author in (0, 1):
        own, others = (sum(different.likelihoods[model][author]) for model in (author, 1 - author))
        assert own > others


def test_of_a_long_prompt_only_the_end_is_read(folder: Path) -> None:
    long = "".join(f"{number} " for number in range(3000))
    cut = replay(request(folder, "one", "two", prompts=(long, "9")))
    assert cut.cut == 1


def test_models_with_other_tokens_are_refused(folder: Path, tmp_path: Path) -> None:
    tiny_models.build_full_finetune(folder / "base", tmp_path / "other")
    tokenizer = tiny_models.build_tokenizer()
    tokenizer.add_tokens(["task"])
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(UnsupportedCheckpoint, match="use different tokens"):
        replay(request(folder, "one", str(tmp_path / "other")))


def test_a_trained_prompt_and_an_encoder_are_refused(folder: Path, tmp_path: Path, bases: Bases) -> None:
    config = PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    prompted = get_peft_model(tiny_models.load(folder / "base"), config)
    prompted.save_pretrained(tmp_path / "prompt")
    with pytest.raises(UnsupportedCheckpoint, match="is a trained prompt"):
        replay(request(folder, "one", str(tmp_path / "prompt")))
    encoder = local(bases("ALBERT"))
    model = BaseModel(encoder, weights_digest(encoder), "float32")
    with pytest.raises(UnsupportedCheckpoint, match="does not generate text"):
        replay(Replay((model, model), (encoder, encoder), PROMPTS, max_new_tokens=4))


def test_the_process_replies_reports_its_progress_and_keeps_the_deadline(folder: Path) -> None:
    shares: list[float] = []
    asked = request(folder, "one", "two")
    with EmbeddingProcess() as process:
        with pytest.raises(Shortage, match="The replay took longer") as late:
            process.replay(asked, deadline_seconds=0.001)
        found = process.replay(asked, deadline_seconds=300, on_share=shares.append)
    assert late.value.resource is Resource.TIME
    assert found == replay(asked)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
