"""Passages of long texts, and those that a question is about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: Characters of a passage; a sentence or line is only cut where it alone is longer.
LENGTH = 800
_BOUNDARY = re.compile(r"(?<=[.!?])\s+|\n+")


def passages(text: str, *, length: int = LENGTH) -> tuple[str, ...]:
    """Return consecutive parts of a text, cut between sentences or lines; each is a verbatim part of it."""
    return tuple(part.strip() for part in _parts(text, length) if part.strip())


def _parts(text: str, length: int) -> Iterator[str]:
    start, last = 0, 0
    for end in [*(found.end() for found in _BOUNDARY.finditer(text)), len(text)]:
        if end - start > length and last > start:
            yield text[start:last]
            start = last
        while end - start > length:
            yield text[start : start + length]
            start += length
        last = end
    yield text[start:]


def nearest(about: str, parts: Sequence[str], *, most: int) -> tuple[str, ...]:
    """Return the parts with the most weight on the words of a question, in their order in the text.

    Word pieces are compared, weighted by their rarity, so that no language needs rules of its own.
    """
    if len(parts) <= most:
        return tuple(parts)
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes a second to import

    matrix = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True).fit_transform([about, *parts])
    weights = (matrix[1:] @ matrix[0].T).toarray()[:, 0]
    chosen = sorted(sorted(range(len(parts)), key=lambda place: -weights[place])[:most])
    return tuple(parts[place] for place in chosen)
