"""The words of a difference: which tokens one version promotes and demotes more than another one does.

What is left of a version's output head is a list of its furthest tokens in each direction (`deltadex.domain.Words`). A
score that is on no list lies between the two lists' ends: so a token has a rise, or a fall, that it makes *at least*,
and only that is said. Others may have risen more, which only the whole head tells: docs/analyses.md says how many do.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from deltadex.domain import Word, Words


@dataclass(frozen=True)
class _Bounds:
    """What is known of a version's scores: each token's that is listed, and what the others lie between."""

    known: dict[str, float]
    low: float
    high: float

    @classmethod
    def of(cls, words: Words) -> _Bounds:
        known = {word.text.casefold(): word.score for word in (*words.demoted, *words.promoted)}
        low = max((word.score for word in words.demoted), default=-inf)
        return cls(known, low, min((word.score for word in words.promoted), default=inf))

    def least(self, text: str) -> float:
        return self.known.get(text.casefold(), self.low)

    def most(self, text: str) -> float:
        return self.known.get(text.casefold(), self.high)


def moved(before: Words, after: Words) -> Words:
    """Return the tokens whose scores rose and fell most from one version to another, by how much at least.

    Parameters
    ----------
    before, after
        Of one recipe. Where either has none, nor has the difference, for the same reason.
    """
    for one in (before, after):
        if one.note:
            return Words(note=one.note)
    old, new = _Bounds.of(before), _Bounds.of(after)
    # The later version's spelling, where both have one.
    said = (*before.promoted, *before.demoted, *after.promoted, *after.demoted)
    texts = sorted({word.text.casefold(): word.text for word in said}.values())
    risen = [Word(text, round(new.least(text) - old.most(text), 3)) for text in texts]
    fallen = [Word(text, round(new.most(text) - old.least(text), 3)) for text in texts]
    return Words(
        tuple(sorted((word for word in risen if word.score > 0), key=lambda word: -word.score)),
        tuple(sorted((word for word in fallen if word.score < 0), key=lambda word: word.score)),
    )
