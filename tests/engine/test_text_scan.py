"""Likelihoods of fixed texts and tokens, against transformers itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import TextScan
from deltadex.engine.text_scan import scan
from deltadex.errors import DeltadexError
from tests import tiny_models

START, TEXTS = "### Response:\n", ("Describe the task", "a", "The request that follows is long, and the longest of all")
TOKENS = (" the", "e", "zzzz", "é")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    tiny_models.build_adapter(base, folder / "adapter", seed=1, strength=0.5)
    return folder


def request(folder: Path, name: str | None) -> TextScan:
    checkpoint = inspect(LocalFiles(folder / "base")).fetch()
    base = BaseModel(checkpoint, weights_digest(checkpoint), "float32")
    own = None if name is None else inspect(LocalFiles(folder / name)).fetch()
    return TextScan(base, own, START, TEXTS, TOKENS)


def test_texts_and_tokens_have_the_likelihood_that_transformers_gives_them(folder: Path) -> None:
    found = scan(request(folder, None))
    tokenizer, model = AutoTokenizer.from_pretrained(folder / "base"), tiny_models.load(folder / "base").eval()
    start = tokenizer(START, add_special_tokens=False)["input_ids"]
    ids = [tokenizer(token, add_special_tokens=False)["input_ids"] for token in TOKENS]
    known = torch.tensor([one[0] for one in ids if len(one) == 1])
    assert [one is not None for one in found.tokens] == [len(one) == 1 for one in ids] != [True] * len(TOKENS)
    shares = []
    for number, text in enumerate(TEXTS):
        read = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            said = model(torch.tensor([start + read])).logits[0, len(start) - 1 : -1].log_softmax(-1)
        expected = sum(float(said[at, token]) for at, token in enumerate(read))
        assert found.texts[number] == pytest.approx(expected, rel=1e-4)
        shares.append(said[:, known].log_softmax(-1).mean(0))
    given = [one for one in found.tokens if one is not None]
    assert given == pytest.approx(torch.stack(shares).mean(0).tolist(), rel=1e-4)


def test_a_child_gives_the_same_and_a_finetune_something_else(folder: Path) -> None:
    done: list[float] = []
    with EmbeddingProcess(threads=1) as process:
        base = process.scan(request(folder, None), deadline_seconds=60, on_share=done.append)
        finetune = process.scan(request(folder, "adapter"), deadline_seconds=60)
    assert base == scan(request(folder, None))
    assert done[-1] == 1
    assert all(abs(one - other) > 1e-3 for one, other in zip(base.texts, finetune.texts, strict=True))


def test_weights_that_are_not_finite_are_an_error(folder: Path, tmp_path: Path) -> None:
    model = tiny_models.load(folder / "base")
    model.model.norm.weight.data[0] = torch.nan
    model.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(folder / "base").save_pretrained(tmp_path / "base")
    with pytest.raises(DeltadexError, match="not finite"):
        scan(request(tmp_path, None))
