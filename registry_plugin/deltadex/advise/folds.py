"""Distinct examples of a task, and the folds that keep each one apart from what is made for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from deltadex.engine.examples import Example
from deltadex.errors import ExamplesError

_HINT = "Give more examples with other prompts."


@dataclass(frozen=True)
class FoldedTask:
    """Distinct examples of a task in folds.

    Attributes
    ----------
    folds
        Fold of each example; examples with equal prompts are in one fold.
    duplicates
        Number of examples that were left out because an equal one is there.
    """

    examples: tuple[Example, ...]
    folds: tuple[int, ...]
    duplicates: int = 0

    @classmethod
    def of(cls, examples: Sequence[Example], *, folds: int) -> FoldedTask:
        """Leave out examples that repeat others, and draw folds of nearly equal size with a fixed seed.

        Texts that differ only in case and blanks count as equal.

        Raises
        ------
        ExamplesError
            There are fewer different prompts than folds.
        """
        known: dict[tuple[str, str], Example] = {}
        for one in examples:
            known.setdefault((prompt_of(one), _plain(one.completion)), one)
        distinct = tuple(known.values())
        groups: dict[str, list[int]] = {}
        for number, one in enumerate(distinct):
            # Examples without a prompt have nothing in common but that.
            groups.setdefault(prompt_of(one) or f"\0{_plain(one.completion)}", []).append(number)
        if len(groups) < folds:
            raise ExamplesError(f"{len(groups)} different prompts are fewer than {folds} folds", hint=_HINT)
        shuffled = list(groups.values())
        random.Random(0).shuffle(shuffled)  # noqa: S311 - no secret
        numbers, sizes = [0] * len(distinct), [0] * folds
        for group in sorted(shuffled, key=len, reverse=True):
            smallest = sizes.index(min(sizes))
            sizes[smallest] += len(group)
            for number in group:
                numbers[number] = smallest
        return cls(distinct, tuple(numbers), len(examples) - len(distinct))

    @property
    def fold_count(self) -> int:
        """Number of folds."""
        return max(self.folds) + 1

    def outside(self, fold: int) -> list[int]:
        """Return the numbers of the examples that are not in a fold: what may be made or chosen for it."""
        return [number for number, own in enumerate(self.folds) if own != fold]


def prompt_of(example: Example) -> str:
    """Return an example's prompt as one text, in lower case and with single blanks."""
    prompt = example.prompt
    return _plain(prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
