"""Mean hidden states of texts, against transformers itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.requests import BaseModel
from tests import tiny_models

TEXTS = ("Describe the task below", "Respond", "a b c " * 100)


def test_a_text_has_the_mean_of_its_states_without_the_first(tmp_path: Path) -> None:
    folder = tiny_models.build_base(tmp_path / "base")
    checkpoint = inspect(LocalFiles(folder)).fetch()
    base = BaseModel(checkpoint, weights_digest(checkpoint), "float32")
    with EmbeddingProcess() as process:
        states = process.text_states(base, TEXTS, deadline_seconds=120)
    assert states.dtype == np.float32
    tokenizer, model = AutoTokenizer.from_pretrained(folder), tiny_models.load(folder).eval()
    for text, found in zip(TEXTS, states, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"][:256]])
        with torch.inference_mode():
            own = model(ids, output_hidden_states=True).hidden_states[-1][0]
        expected = own[1:].mean(0) if len(own) > 1 else own[0]
        assert found == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-4)
