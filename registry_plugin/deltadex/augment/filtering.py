"""Filters of augmented examples: empty, too long, held out, repeated, or off the subject."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from deltadex.augment.augmented import Augmented, Drop, Origin, asked, whole_text
from deltadex.engine.examples import MAX_CHARACTERS, Example

#: Jaccard similarity of character n-grams from which two texts count as the same.
NEAR = 0.9
_GRAM = 5
#: An augmented example is at most this many times as long as the longest of its sources, plus a frame's text.
_LENGTH_RATIO, _FRAME = 2, 200
#: Share of an inference's words that its sources must have.
_SHARED_WORDS = 0.5


@dataclass
class Sieve:
    """Keeps candidates one by one and counts what it drops.

    Attributes
    ----------
    given
        The examples that candidates are made from.
    held_out
        Examples that a score is measured on: nothing like them may be trained on.
    """

    given: Sequence[Example]
    held_out: Sequence[Example] = ()
    kept: list[Augmented] = field(default_factory=list)
    dropped: Counter[Drop] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._held_out = [_Seen.of(one) for one in self.held_out]
        self._seen = [_Seen.of(one) for one in self.given]

    def offer(self, candidate: Augmented) -> bool:
        """Keep a candidate, or count the reason why not; return True if it was kept."""
        seen = _Seen.of(candidate.example)
        reason = self._reason(candidate, seen)
        if reason is not None:
            self.dropped[reason] += 1
            return False
        self._seen.append(seen)
        self.kept.append(candidate)
        return True

    def _reason(self, candidate: Augmented, seen: _Seen) -> Drop | None:
        text, sources = whole_text(candidate.example), [self.given[place] for place in candidate.sources]
        longest = max(len(whole_text(one)) for one in sources)
        if not candidate.example.completion.strip():
            return Drop.EMPTY
        if len(text) > min(MAX_CHARACTERS, _LENGTH_RATIO * longest + _FRAME):
            return Drop.LONG
        if any(seen.is_near(other) for other in self._held_out):
            return Drop.HELD_OUT
        # A reversal keeps all words and most n-grams: only an equal text repeats it.
        if any(seen == other if candidate.origin is Origin.REVERSED else seen.is_near(other) for other in self._seen):
            return Drop.DUPLICATE
        if candidate.origin is Origin.INFERRED and not _has_words_of(text, map(whole_text, sources)):
            return Drop.FAR
        return None


@dataclass(frozen=True)
class _Seen:
    """Prompt and completion of an example, normalised."""

    asked: str
    completion: str

    @classmethod
    def of(cls, example: Example) -> _Seen:
        return cls(normalised(asked(example)), normalised(example.completion))

    def is_near(self, other: _Seen) -> bool:
        # Both parts: other questions have the same answer, and other answers the same question.
        return jaccard(self.completion, other.completion) >= NEAR and jaccard(self.asked, other.asked) >= NEAR


def normalised(text: str) -> str:
    """Return a text without differences of case, width, accents' composition and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def jaccard(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts' character n-grams, in [0, 1]; 1 for equal texts."""
    if one == other:
        return 1.0
    shorter, longer = sorted((len(one), len(other)))
    if shorter < NEAR * longer / 2:  # so different in length that the answer is clear
        return 0.0
    grams = [{text[at : at + _GRAM] for at in range(max(1, len(text) - _GRAM + 1))} for text in (one, other)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def _has_words_of(text: str, sources: Iterable[str]) -> bool:
    words = set(re.findall(r"\w+", normalised(text)))
    known = set(re.findall(r"\w+", normalised("\n".join(sources))))
    return bool(words) and len(words & known) / len(words) >= _SHARED_WORDS
