"""Last hidden states of chat prompts and the odds of a refusal, against transformers itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.requests import BaseModel
from tests import tiny_models

PROMPTS = ("Describe the task below", "Respond", "a b c " * 20)
OPENINGS = ("Sorry", "I cannot", "I am sorry")
TEMPLATE = "{% for one in messages %}<s>{{ one.role }}: {{ one.content }}</s>{% endfor %}<s>assistant:"


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.mark.parametrize("template", ["", TEMPLATE])
def test_states_are_those_at_the_last_token_of_each_prompt_alone(tmp_path: Path, template: str) -> None:
    folder = tiny_models.build_base(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if template:
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
    adapter = tiny_models.build_adapter(folder, tmp_path / "adapter", strength=0.5)
    base = BaseModel(local(folder), weights_digest(local(folder)), "float32")
    with EmbeddingProcess() as process:
        for checkpoint, model in (
            (None, tiny_models.load(folder)),
            (local(adapter), tiny_models.attach_adapter(folder, strength=0.5)),
        ):
            states, odds = process.chat_states(
                base, checkpoint, PROMPTS, openings=OPENINGS, depth=0.5, deadline_seconds=120
            )
            assert (states.dtype, states.shape) == (np.float32, (3, tiny_models.HIDDEN_SIZE))
            for text, state, said in zip(PROMPTS, states, odds, strict=True):
                text = f"<s>user: {text}</s><s>assistant:" if template else text
                ids = torch.tensor([tokenizer(text, add_special_tokens=not template)["input_ids"]])
                with torch.inference_mode():
                    read = model.eval()(ids, output_hidden_states=True)
                assert state == pytest.approx(read.hidden_states[1][0, -1].numpy(), rel=1e-3, abs=1e-4)
                firsts = {tokenizer(each, add_special_tokens=False)["input_ids"][0] for each in OPENINGS}
                share = float(read.logits[0, -1].softmax(-1)[sorted(firsts)].sum())
                assert said == pytest.approx(np.log(share / (1 - share)), abs=1e-3)
