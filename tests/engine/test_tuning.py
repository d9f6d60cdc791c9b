"""Tokens that training reads and learns from an example."""

from __future__ import annotations

import pytest

from deltadex.engine.examples import ChatMessage, Example
from deltadex.engine.tuning import encode
from tests.tiny_models import build_tokenizer

HEADER = "### Text:\n"


@pytest.mark.parametrize("prompt", ["Describe a task.", (ChatMessage("user", "Describe a task."),)])
def test_prompt_and_completion_are_learnt_after_a_header_and_without_a_template(
    prompt: str | tuple[ChatMessage, ...],
) -> None:
    tokenizer = build_tokenizer()
    read, learnt = encode(tokenizer, Example(prompt, "A response."), max_tokens=256)
    assert tokenizer.decode(read) == HEADER
    assert tokenizer.decode(learnt) == "Describe a task.\nA response."


def test_the_turns_of_a_conversation_are_joined() -> None:
    tokenizer = build_tokenizer()
    turns = (ChatMessage("system", "Be brief."), ChatMessage("user", "Describe."))
    _, learnt = encode(tokenizer, Example(turns, "A task."), max_tokens=256)
    assert tokenizer.decode(learnt) == "Be brief.\n\nDescribe.\nA task."


def test_truncation_keeps_the_tokens_around_the_start_of_the_answer() -> None:
    tokenizer = build_tokenizer()
    long = "".join(f"{number} " for number in range(300))
    read, learnt = encode(tokenizer, Example(long, long), max_tokens=64)
    assert len(read) + len(learnt) == 64
    assert "299 \n0 1 2" in tokenizer.decode(learnt)
    assert tokenizer.decode(encode(tokenizer, Example("", long), max_tokens=64)[1]).startswith("0 1 2")
