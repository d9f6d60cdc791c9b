"""Folds of a task's examples: those that augmented ones are made from, and those that a score is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deltadex.augment.augmented import Augmentation
from deltadex.engine.examples import Example
from deltadex.errors import ExamplesError

#: One example of so many is held out.
_EVERY = 4
#: Fewer can't be cut into two folds that say anything.
_FEWEST = 8


@dataclass(frozen=True)
class Folds:
    """Examples cut into two folds, evenly over their order.

    Attributes
    ----------
    places
        Places of the training fold's examples among all.
    """

    examples: tuple[Example, ...]
    training: tuple[Example, ...]
    held_out: tuple[Example, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Folds:
        """Cut the examples.

        Raises
        ------
        ExamplesError
            There are too few.
        """
        if len(examples) < _FEWEST:
            raise ExamplesError(
                f"{len(examples)} examples are too few to compare on a held-out fold",
                hint=f"Give at least {_FEWEST}; from about 120, the comparison says something.",
            )
        places = tuple(place for place in range(len(examples)) if place % _EVERY != _EVERY - 1)
        held_out = tuple(examples[_EVERY - 1 :: _EVERY])
        return cls(tuple(examples), tuple(examples[place] for place in places), held_out, places)

    def over_all(self, augmentation: Augmentation) -> Augmentation:
        """Return an augmentation of the training fold as one of all examples: sources are places among all."""
        made = tuple(
            replace(one, sources=tuple(self.places[place] for place in one.sources)) for one in augmentation.made
        )
        return replace(augmentation, given=self.examples, made=made)
