"""Requests to answer, score and read texts with models, and their results. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.engine.examples import Example
from deltadex.engine.requests import BaseModel

TokenIds = tuple[int, ...]


@dataclass(frozen=True)
class Replay:
    """Two models to answer the same prompts.

    Attributes
    ----------
    bases, checkpoints
        The models, each a finetune with its base.
    max_new_tokens
        Token limit per reply.
    max_prompt_tokens
        Token limit per prompt; of a longer one only its end is read.
    """

    bases: tuple[BaseModel, BaseModel]
    checkpoints: tuple[LocalCheckpoint, LocalCheckpoint]
    prompts: tuple[str, ...]
    max_new_tokens: int
    max_prompt_tokens: int = 1024
    task: Literal["replay"] = "replay"


@dataclass(frozen=True)
class Replies:
    """Replies of two models to the same prompts.

    Attributes
    ----------
    tokens
        `tokens[model][prompt]`: the reply's tokens, with the one that ends it unless the limit cut it.
    likelihoods
        `likelihoods[model][author][prompt]`: mean log-likelihood (nats per token) that a model gives to the reply of
        an author, itself or the other one.
    cut
        Number of prompts that were read from their end only.
    """

    tokens: tuple[tuple[TokenIds, ...], ...]
    likelihoods: tuple[tuple[tuple[float, ...], ...], ...]
    cut: int


@dataclass(frozen=True)
class Scoring:
    """Examples whose completions a model scores.

    Attributes
    ----------
    checkpoint
        A finetune of the base; None for the base itself.
    contexts
        In-context examples before each example; empty for none at all.
    max_tokens
        Token limit per example; a completion gets at most half, and of a longer prompt only the end is read.
    """

    base: BaseModel
    checkpoint: LocalCheckpoint | None
    examples: tuple[Example, ...]
    contexts: tuple[tuple[Example, ...], ...] = ()
    max_tokens: int = 1024
    task: Literal["score"] = "score"


@dataclass(frozen=True)
class Scored:
    """Likelihood of one completion.

    Attributes
    ----------
    nats
        Negative log-likelihood of the completion after its prompt, in nats.
    tokens
        Number of tokens of the completion.
    is_greedy
        True if greedy decoding writes exactly this completion.
    prompt_tokens
        Number of tokens before it.
    is_cut
        True if the limit cut the completion, or the start of what stands before it.
    bytes
        Length of the scored part of the completion in UTF-8.
    token_nats
        Negative log-likelihood of each of its tokens; their sum is `nats`.
    token_texts
        Text of each of its tokens, with its blanks.
    """

    nats: float
    tokens: int
    is_greedy: bool
    prompt_tokens: int
    is_cut: bool = False
    bytes: int = 0
    token_nats: tuple[float, ...] = ()
    token_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Texts:
    """Texts to read with a base.

    Attributes
    ----------
    states
        File to write the mean hidden state of each to, as a `(n, hidden_size)` float32 array.
    max_tokens
        Token limit per text.
    """

    base: BaseModel
    texts: tuple[str, ...]
    states: Path
    max_tokens: int = 256
    task: Literal["texts"] = "texts"


@dataclass(frozen=True)
class TextScan:
    """Texts and tokens whose likelihood a model gives.

    Attributes
    ----------
    checkpoint
        A finetune of the base; None for the base itself.
    start
        Text before each of the texts, at least one token.
    tokens
        Short strings; those that the tokenizer reads as one token count.
    """

    base: BaseModel
    checkpoint: LocalCheckpoint | None
    start: str
    texts: tuple[str, ...]
    tokens: tuple[str, ...]
    task: Literal["scan"] = "scan"


@dataclass(frozen=True)
class Scanned:
    """Likelihoods that a model gives to texts and tokens.

    Attributes
    ----------
    texts
        Log-likelihood of each text, in nats.
    tokens
        Log-probability of each token among those of the scan, mean over all places of a text and then over the texts;
        None for a string that is not one token.
    """

    texts: tuple[float, ...]
    tokens: tuple[float | None, ...]


@dataclass(frozen=True)
class ChatStates:
    """Questions whose last hidden states are read, each as the turn of a user.

    Attributes
    ----------
    checkpoint
        A finetune of the base; None for the base itself.
    openings
        Texts by which refusals begin; of each, the first token counts.
    depth
        Layer that is read, as a share of all layers.
    results
        File to write: `states`, `(n, hidden_size)` float32, and `odds`, `(n,)` float32.
    """

    base: BaseModel
    checkpoint: LocalCheckpoint | None
    prompts: tuple[str, ...]
    openings: tuple[str, ...]
    depth: float
    results: Path
    task: Literal["chat_states"] = "chat_states"


@dataclass(frozen=True)
class Elicitation:
    """A finetune to be searched for texts that it says and its base does not.

    Attributes
    ----------
    prompts
        Texts to begin with, besides those that suit any model.
    tokens
        Words that the finetune promotes; each begins a text.
    texts
        Most texts to continue.
    max_new_tokens
        Token limit per text.
    seconds
        Time after which no further texts are continued.
    """

    base: BaseModel
    checkpoint: LocalCheckpoint
    prompts: tuple[str, ...]
    tokens: tuple[str, ...]
    texts: int
    max_new_tokens: int
    seconds: float
    task: Literal["elicit"] = "elicit"


@dataclass(frozen=True)
class Continuation:
    """One text of a finetune.

    Attributes
    ----------
    before
        Opening that was given, without the prompt before it.
    pieces
        Text of each token that the finetune added.
    nats, base_nats
        Negative log-likelihood of each of these tokens under the finetune and under its base.
    """

    before: str
    pieces: tuple[str, ...]
    nats: tuple[float, ...]
    base_nats: tuple[float, ...]


@dataclass(frozen=True)
class Elicited:
    """Texts that a finetune says and its base does not.

    Attributes
    ----------
    tokens
        Tokens that both models read.
    is_whole
        False if the time ran out before all texts were continued.
    """

    texts: tuple[Continuation, ...]
    tokens: int
    is_whole: bool
