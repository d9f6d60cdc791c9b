"""Finetunes of three bases for the comparison across bases, and what was read of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.pools import Finetune, finetunes, of_reuse
from benchmarks.real.texts import DOMAINS, PARTS, Role, Texts

Array = NDArray[np.float32]
#: Bases by name: SmolLM2, its sibling with a third of its layers cut out, and an independent one.
OURS, SIBLING, INDEPENDENT = "SmolLM2", "sibling", "independent"
#: Parts of the text that each base's finetunes were trained on. The sibling's is one that no finetune of SmolLM2 has.
_PARTS: Mapping[str, frozenset[int]] = {
    OURS: frozenset({0, 1}),
    SIBLING: frozenset({2}),
    INDEPENDENT: frozenset({0, 1, 2}),
}
#: Anchor texts of each train domain; the bases' states of them are mapped.
_ANCHORS = 40
#: Readings by name of their field, that are kept in the committed file.
KEPT = ("meaning", "everywhere", "content")


@dataclass(frozen=True, eq=False)
class Read:
    """Readings of a base's finetunes, as the committed file has them.

    Attributes
    ----------
    models
        `n` finetunes.
    readings
        `(n, …)` float32 by name.
    states
        `(n_anchors, hidden_size)` float32: the base's own states of the anchor texts.
    bits_per_byte
        The base's loss on text of the train domains that neither it nor a finetune was trained on.
    """

    models: tuple[Finetune, ...]
    readings: Mapping[str, Array]
    states: Array
    bits_per_byte: float = float("nan")


def finetunes_of(base: str, *roles: Role) -> tuple[Finetune, ...]:
    """Return a base's finetunes of domains of some roles."""
    splits = [one for one in (*finetunes(), *of_reuse()) if one.pools == ("splits",)]
    asked = [(one, DOMAINS[one.domain].role) for one in splits]
    return tuple(one for one, role in asked if role in roles and one.part in _PARTS[base])


def anchor_texts(texts: Texts) -> list[str]:
    """Return lines of the train domains' last part, which no finetune was trained on."""
    return [line for name, one in DOMAINS.items() if one.role is Role.TRAIN for line in _lines(texts, name)]


def _lines(texts: Texts, domain: str) -> Iterator[str]:
    lines = [line.strip() for text in texts.part(DOMAINS[domain].source, PARTS - 1) for line in text.splitlines()]
    long = [line[:120] for line in dict.fromkeys(lines) if len(line) > 40]
    yield from long[:: max(1, len(long) // _ANCHORS)][:_ANCHORS]


def write(file: Path, read: Mapping[str, Read]) -> None:
    """Write readings of all bases into one file, in half precision but for the likelihoods."""
    arrays = {}
    for base, one in read.items():
        arrays |= {f"{base}/{name}": _smaller(name, values) for name, values in one.readings.items()}
        arrays[f"{base}/states"] = one.states.astype(np.float16)
        arrays[f"{base}/bits_per_byte"] = np.array(one.bits_per_byte)
        arrays[f"{base}/models"] = np.array([_key(each) for each in one.models])
    np.savez_compressed(file, allow_pickle=False, **arrays)


def load(file: Path) -> dict[str, Read]:
    """Return the readings of the finetunes of `REUSE` domains that a file has, by base."""
    with np.load(file) as arrays:
        return {
            base: Read(
                tuple(one for one in finetunes_of(base, Role.REUSE) if _key(one) in {*arrays[f"{base}/models"]}),
                {name: arrays[f"{base}/{name}"].astype(np.float32) for name in KEPT},
                arrays[f"{base}/states"].astype(np.float32),
                float(arrays[f"{base}/bits_per_byte"]),
            )
            for base in _PARTS
            if f"{base}/states" in arrays
        }


def _key(one: Finetune) -> str:
    return f"{one.domain} {one.part}"


def _smaller(name: str, values: Array) -> NDArray[np.floating]:
    return values if name == "meaning" else values.astype(np.float16)
