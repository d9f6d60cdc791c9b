"""Tokens that training reads and learns from an example."""

from __future__ import annotations

import pytest

from deltadex.engine.examples import ChatMessage, Example
from deltadex.engine.tuning import encode
from tests.tiny_models import build_tokenizer

TEMPLATE = "Respond.\n\n### Instruction:\nDescribe a task.\n\n### Response:\n"


@pytest.mark.parametrize("prompt", ["Describe a task.", (ChatMessage("user", "Describe a task."),)])
def test_a_prompt_ends_where_the_probes_end_and_the_completion_is_learnt_to_its_end(
    prompt: str | tuple[ChatMessage, ...],
) -> None:
    tokenizer = build_tokenizer()
    read, learnt = encode(tokenizer, Example(prompt, "A response."), instruction="Respond.", max_tokens=256)
    assert tokenizer.decode(read) == TEMPLATE
    assert tokenizer.decode(learnt) == "A response." + tokenizer.eos_token


def test_a_conversation_is_read_by_the_bases_own_template() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    turns = (ChatMessage("system", "Be brief."), ChatMessage("user", "Describe."))
    read, _ = encode(tokenizer, Example(turns, "A task."), instruction="Respond.", max_tokens=256)
    assert tokenizer.decode(read) == "<system>Be brief.<user>Describe.<assistant>"


def test_truncation_keeps_the_tokens_around_the_start_of_the_answer() -> None:
    tokenizer = build_tokenizer()
    long = "".join(f"{number} " for number in range(300))
    read, learnt = encode(tokenizer, Example(long, long), instruction="Respond.", max_tokens=64)
    assert len(read) + len(learnt) == 64
    assert tokenizer.decode(learnt).startswith("0 1 2")
    assert tokenizer.decode(read).endswith("299 \n\n### Response:\n")
