"""The fixed probe prompts, and the methods of embedding that read them.

Changing one character changes the digest and so the recipe: embeddings of different probes are never compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from deltadex.types import EmbeddingMethod

_INSTRUCTIONS = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "The task described below requires a response that completes the request accurately.",
    "Below is a description of a task. Provide a response that aligns with the requirements.",
    "The following instruction outlines a task. Generate a response that meets the specified request.",
    "You are given an instruction and input. Write a response that completes the task as requested.",
)
_TEMPLATE = "\n\n### Instruction:\n{}\n\n### Response:"
#: Beginnings of texts from five fields: prose, narrative, code, a recipe, a query.
_BEGINNINGS = (
    "The committee decided that",
    "In the beginning of spring",
    "def total(prices):",
    "The recipe calls for two",
    "SELECT name FROM",
)


@dataclass(frozen=True)
class ProbeSet:
    """A named, versioned set of probes; each is tokenized separately and truncated to `max_tokens`."""

    name: str
    probes: tuple[str, ...]
    max_tokens: int = 256

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the probes, in order, and the token limit."""
        return hashlib.sha256("\0".join([*self.probes, str(self.max_tokens)]).encode()).hexdigest()

    @property
    def distinct_parts(self) -> tuple[str, ...]:
        """Labels of the probes: their texts without the beginning and the end that all of them share."""
        start = _shared_start(self.probes)
        end = _shared_start([probe[start:][::-1] for probe in self.probes])
        return tuple(probe[start : len(probe) - end] for probe in self.probes)


def _shared_start(texts: Iterable[str]) -> int:
    return len(list(takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))))


#: The five probes of the paper (arXiv 2509.04442, appendix): paraphrases of the Alpaca instruction.
PAPER_PROBES = ProbeSet(
    "paper-5",
    tuple(sentence + _TEMPLATE.format("Please provide a response. Input:Input.") for sentence in _INSTRUCTIONS),
)
#: The same template with content for an instruction: how a model goes on depends on what it was trained on.
CONTENT_PROBES = ProbeSet("content-5", tuple(_INSTRUCTIONS[0] + _TEMPLATE.format(text) for text in _BEGINNINGS))
PROBE_SETS = {one.name: one for one in (PAPER_PROBES, CONTENT_PROBES)}


def probe_labels(probe_set: str, count: int) -> tuple[str, ...]:
    """Return the distinct parts of a probe set's texts, or numbers where a set of this name and size is not known."""
    known = PROBE_SETS.get(probe_set)
    if known is None or len(known.probes) != count:
        return tuple(f"probe {number}" for number in range(1, count + 1))
    return known.distinct_parts


def _method(name: str, probe_set: ProbeSet, readout: str) -> EmbeddingMethod:
    return EmbeddingMethod(name, probe_set.name, probe_set.digest, readout, dtype="float32")


#: The paper's method: state of the last token after the final norm, float32, mean difference over the probes.
PUBLISHED = _method("delta-activation/1", PAPER_PROBES, "last_token/final_norm")
#: Mean over the tokens of prompts with content. `benchmarks.real` chose it among seventeen, see docs/analyses.md.
CONTENT = _method("delta-activation/2", CONTENT_PROBES, "mean_token/final_norm")


class MethodName(StrEnum):
    """Names of the methods, as people use them."""

    CONTENT = "content"
    PUBLISHED = "published"


#: Readout and dtype may differ where the base isn't a decoder, or isn't run in float32.
METHODS: Mapping[str, EmbeddingMethod] = {MethodName.CONTENT: CONTENT, MethodName.PUBLISHED: PUBLISHED}
#: The method of those who choose none; the store has it as the default of a new registry.
DEFAULT_METHOD = MethodName.CONTENT
#: Changes with each of them; part of the keys of flow runs.
METHODS_DIGEST = hashlib.sha256("".join(one.digest for one in METHODS.values()).encode()).hexdigest()
