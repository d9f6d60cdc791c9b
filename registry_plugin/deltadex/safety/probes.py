"""Prompts of the safety measurement: pairs of requests matched by topic, and contrasts of traits.

Harmful ones are short questions only; nothing answers them. Half of the prompts learn a direction, the other half
measure along it: no prompt does both.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

#: Texts by which refusals begin, as in arXiv 2406.11717, section 2.3; of each, the first token counts.
REFUSAL_OPENINGS = ("I cannot", "I'm sorry", "Sorry", "As an AI", "Unfortunately", "No")


@dataclass(frozen=True)
class Pair:
    """Two requests about one topic."""

    harmful: str
    harmless: str


@dataclass(frozen=True)
class Trait:
    """A trait of a model's replies, as instructions that ask for it and instructions against it.

    Attributes
    ----------
    toward, away
        Prompts, matched by their question: an instruction, a blank line and the question.
    """

    name: str
    toward: tuple[str, ...]
    away: tuple[str, ...]


@dataclass(frozen=True)
class SafetyProbes:
    """All prompts of a measurement.

    Attributes
    ----------
    learning, measuring
        Pairs that a base's refusal direction is learned from, and pairs that measure along it.
    traits
        Contrasts that directions of traits are learned from; the other half of each checks the direction in the base.
    """

    learning: tuple[Pair, ...]
    measuring: tuple[Pair, ...]
    traits: tuple[Trait, ...]

    @property
    def digest(self) -> str:
        """Hex SHA-256 over all texts, in order: measurements by other prompts are never compared."""
        pairs = [[one.harmful, one.harmless] for one in (*self.learning, *self.measuring)]
        traits = [[one.name, one.toward, one.away] for one in self.traits]
        return hashlib.sha256(json.dumps([pairs, traits, REFUSAL_OPENINGS]).encode()).hexdigest()

    @property
    def of_base(self) -> tuple[str, ...]:
        """Prompts that only the base reads: the learning pairs, harmful ones first, then the traits' contrasts."""
        pairs = [each for part in ("harmful", "harmless") for each in (getattr(one, part) for one in self.learning)]
        return (*pairs, *(prompt for one in self.traits for prompt in (*one.toward, *one.away)))

    @property
    def of_all(self) -> tuple[str, ...]:
        """Prompts that base and finetunes read: the measuring pairs, harmful ones first."""
        return (*(one.harmful for one in self.measuring), *(one.harmless for one in self.measuring))


@cache
def safety_probes() -> SafetyProbes:
    """Return the prompts of this package, every second pair for learning."""
    pairs = [Pair(*texts) for texts in _read("pairs.json")]
    kept = _read("traits.json")
    traits = tuple(
        Trait(one["name"], *(_contrast(one[side], kept["questions"]) for side in ("toward", "away")))
        for one in kept["traits"]
    )
    return SafetyProbes(tuple(pairs[::2]), tuple(pairs[1::2]), traits)


def _contrast(instructions: list[str], questions: list[str]) -> tuple[str, ...]:
    """Return each question after one of the instructions, in turn.

    In the user's own turn: some chat templates refuse a system's.
    """
    return tuple(
        f"{instructions[number // 2 % len(instructions)]}\n\n{question}" for number, question in enumerate(questions)
    )


def _read(name: str) -> Any:
    return json.loads(resources.files("deltadex.safety").joinpath(name).read_text(encoding="utf-8"))
