"""Tokens of an example's prompt and completion, with in-context examples before it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.engine.examples import ChatMessage, Example
from deltadex.engine.text_requests import TokenIds

#: Between plain in-context examples.
_BETWEEN = "\n\n"


def prompt_ids(tokenizer: Tokenizer, example: Example, context: Sequence[Example] = ()) -> TokenIds:
    """Return the tokens before an example's completion; at least one.

    Conversations take the tokenizer's chat template, where it has one, and in-context examples are earlier turns of
    them. Plain prompts are joined as they are, with a blank line between examples.
    """
    if tokenizer.chat_template and not isinstance(example.prompt, str):
        earlier = [[*_turns(one), ChatMessage("assistant", one.completion)] for one in context]
        turns = [{"role": turn.role, "content": turn.content} for turn in chain(*earlier, _turns(example))]
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        text = "".join(f"{_plain(one)}{one.completion}{_BETWEEN}" for one in context) + _plain(example)
        ids = tokenizer(text)["input_ids"]
    return tuple(ids) or (_start(tokenizer),)


def completion_ids(tokenizer: Tokenizer, example: Example) -> TokenIds:
    """Return the tokens of an example's completion, without an end."""
    return tuple(tokenizer(example.completion, add_special_tokens=False)["input_ids"])


def _turns(example: Example) -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", example.prompt),) if isinstance(example.prompt, str) else example.prompt


def _plain(example: Example) -> str:
    return example.prompt if isinstance(example.prompt, str) else _BETWEEN.join(one.content for one in example.prompt)


def _start(tokenizer: Tokenizer) -> int:
    """Return the token that stands before a text without a prompt."""
    starts = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
    return int(next(one for one in starts if one is not None))
