"""The fixed probe prompts.

Changing one character changes the digest and so the recipe: embeddings of different probes are never compared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from deltadex.types import EmbeddingMethod

_INSTRUCTIONS = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "The task described below requires a response that completes the request accurately.",
    "Below is a description of a task. Provide a response that aligns with the requirements.",
    "The following instruction outlines a task. Generate a response that meets the specified request.",
    "You are given an instruction and input. Write a response that completes the task as requested.",
)
_TEMPLATE = "\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"


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


#: The five probes of the paper (arXiv 2509.04442, appendix): paraphrases of the Alpaca instruction.
PAPER_PROBES = ProbeSet("paper-5", tuple(sentence + _TEMPLATE for sentence in _INSTRUCTIONS))

#: The paper's method: state of the last token after the final norm, float32, mean difference over the probes.
DELTA_ACTIVATION = EmbeddingMethod(
    name="delta-activation/1",
    probe_set=PAPER_PROBES.name,
    probe_digest=PAPER_PROBES.digest,
    readout="last_token/final_norm",
    dtype="float32",
)
