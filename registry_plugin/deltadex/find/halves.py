"""Disjoint halves of a task's examples, by which the certainty of an answer is known."""

from __future__ import annotations

import random
from collections.abc import Sequence

from deltadex.engine.examples import Example

#: Fewer examples leave halves too small to say anything.
FEWEST_EXAMPLES = 4


def halves(examples: Sequence[Example], splits: int) -> list[tuple[Example, ...]]:
    """Return two disjoint halves of the examples for each split, in the same order for the same number of examples.

    Of an odd number, one example is left out of each split. There are none of fewer than `FEWEST_EXAMPLES`.
    """
    if len(examples) < FEWEST_EXAMPLES:
        return []
    order, half, found = list(examples), len(examples) // 2, list[tuple[Example, ...]]()
    for split in range(splits):
        random.Random(split).shuffle(order)  # noqa: S311 - no secret
        found += [tuple(order[:half]), tuple(order[half : 2 * half])]
    return found
