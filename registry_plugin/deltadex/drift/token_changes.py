"""Tokens that one version promotes or demotes more than another.

A version stores only its tokens with the largest shifts in each direction (`deltadex.types.Words`). The score of any
other token lies between the ends of the two lists, so each rise or fall has a lower bound, which is returned. Tokens on
neither list may have changed more: docs/analyses.md has the share.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from deltadex.types import Word, Words


@dataclass(frozen=True)
class _Bounds:
    """Scores of a version's listed tokens, and the bounds of all other scores."""

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
    """Return the tokens whose scores rose and fell most between two versions, with lower bounds of the change.

    Parameters
    ----------
    before, after
        Words of one recipe. If either has a note instead of words, so has the result, and if what all models share
        was subtracted from one of them only.
    """
    for one in (before, after):
        if one.note:
            return Words(note=one.note)
    if bool(before.among) is not bool(after.among):
        return Words(note="The words of one version are not told apart from those of other models yet.")
    old, new = _Bounds.of(before), _Bounds.of(after)
    # The later version's spelling wins: it comes last.
    listed = (*before.promoted, *before.demoted, *after.promoted, *after.demoted)
    texts = sorted({word.text.casefold(): word.text for word in listed}.values())
    risen = [Word(text, round(new.least(text) - old.most(text), 3)) for text in texts]
    fallen = [Word(text, round(new.most(text) - old.least(text), 3)) for text in texts]
    return Words(
        tuple(sorted((word for word in risen if word.score > 0), key=lambda word: -word.score)),
        tuple(sorted((word for word in fallen if word.score < 0), key=lambda word: word.score)),
    )
