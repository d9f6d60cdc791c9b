"""Comparison of the embedding in a pack with one of the same model that was made again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deltadex.engine.probes import METHODS
from deltadex.errors import EvidenceError
from deltadex.evidence.embedding import FORMAT
from deltadex.evidence.opened import opened, read_index, read_json
from deltadex.types import Embedding, FloatArray

#: Deltas of base and finetune, each read twice: their errors add up as the root of four squares.
_READINGS = 2.0
#: Of float32 sums over a few thousand components, where the noise was not measured or is none.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class PackedEmbedding:
    """The latest embedding in a pack.

    Attributes
    ----------
    vector
        `(dimension,)` float32, not normalised.
    noise_floor
        As in `deltadex.types.Embedding`.
    """

    label: str
    method: str
    probe_digest: str
    dtype: str
    recipe_digest: str
    weights_digest: str
    vector: FloatArray
    noise_floor: float | None

    @property
    def method_name(self) -> str:
        """Name of its method among those of this Deltadex.

        Raises
        ------
        EvidenceError
            This Deltadex has not this method, or other prompts for it.
        """
        for name, known in METHODS.items():
            if (known.name, known.probe_digest) == (self.method, self.probe_digest):
                return name
        raise EvidenceError(
            f"{self.label} was embedded by a method that this Deltadex does not have: {self.method}",
            hint="Use the Deltadex that made the pack: pack.json names it.",
        )


@dataclass(frozen=True)
class Reproduction:
    """The comparison.

    Attributes
    ----------
    difference
        L2 norm of the difference of both vectors, as a share of the norm of the base's hidden state.
    allowed
        What noise between machines can cause, in the same unit.
    similarity
        Cosine similarity of both vectors.
    problem
        Why they can't be compared; empty if they can.
    """

    label: str
    difference: float = float("nan")
    allowed: float = float("nan")
    similarity: float = float("nan")
    problem: str = ""

    @property
    def is_reproduced(self) -> bool:
        """True if both are the same but for noise."""
        return not self.problem and self.difference <= self.allowed


def packed_embedding(path: Path) -> PackedEmbedding:
    """Read the latest embedding of a pack. Verify the pack first: this reads what stands there.

    Raises
    ------
    EvidenceError
        This is no pack, or it has no embedding.
    """
    with opened(path) as folder:
        read_index(folder)
        told = read_json(folder, "embedding.json")
    try:
        if told["format"] != FORMAT:
            raise EvidenceError("The pack has embeddings of another format", hint="Use the Deltadex that made it.")
        return _parsed(told)
    except IndexError as error:
        raise EvidenceError("The pack has no embedding", hint="The version was not embedded.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"embedding.json can't be read: {error!r}", hint="Ask for another copy.") from error


def compare(packed: PackedEmbedding, made: Embedding) -> Reproduction:
    """Compare the embedding of a pack with one of the same weights and base that was made again."""
    if made.weights_digest != packed.weights_digest:
        return Reproduction(packed.label, problem="these are other weights than those that the pack is about")
    if made.recipe.digest != packed.recipe_digest:
        return Reproduction(
            packed.label, problem="another recipe: the base, the probes, the method or the dtype differs"
        )
    unit = made.base_norm or 1.0
    floor = max(each or 0.0 for each in (made.noise_floor, packed.noise_floor))
    lengths = float(np.linalg.norm(made.vector) * np.linalg.norm(packed.vector))
    return Reproduction(
        packed.label,
        difference=float(np.linalg.norm(made.vector - packed.vector)) / unit,
        allowed=max(_READINGS * floor, _ROUNDING),
        similarity=float(made.vector @ packed.vector) / lengths if lengths else 1.0,
    )


def _parsed(told: dict[str, Any]) -> PackedEmbedding:
    latest = told["embeddings"][0]
    vector = np.asarray(latest["vector"], dtype=np.float32)
    if vector.shape != (latest["recipe"]["dimension"],):
        raise ValueError("the vector has not the dimension of its recipe")
    floor = None if latest["noise_floor"] is None else float(latest["noise_floor"])
    if not np.isfinite(vector).all() or not 0 <= (floor or 0.0) < 1:
        raise ValueError("the vector or its noise floor is out of range")
    return PackedEmbedding(
        label=f"{told['model']}/{told['version']}",
        method=str(latest["recipe"]["method"]["name"]),
        probe_digest=str(latest["recipe"]["method"]["probe_digest"]),
        dtype=str(latest["recipe"]["method"]["dtype"]),
        recipe_digest=str(latest["recipe"]["digest"]),
        weights_digest=str(told["weights_digest"]),
        vector=vector,
        noise_floor=floor,
    )
