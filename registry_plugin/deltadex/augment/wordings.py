"""Wordings of the languages that the rules know, as data. Other languages get only the neutral rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Language(StrEnum):
    """Languages with rules of their own."""

    ENGLISH = "en"
    GERMAN = "de"


@dataclass(frozen=True)
class Wording:
    """Questions, answers and statements of one language.

    Attributes
    ----------
    asks
        Pattern of a whole prompt that asks for the meaning of a `term`.
    rephrasings
        Other ways to ask for it.
    reverse
        Asks for the term of a `{definition}`.
    statement
        Question and answer in one sentence.
    copula
        Pattern of a whole sentence with the groups `subject`, `verb` and `rest`.
    reversals
        Reversed sentence by the start of `verb` and `rest`, in lower case; the first that fits is taken.
    common
        Frequent words by which the language is recognised.
    """

    asks: re.Pattern[str]
    rephrasings: tuple[str, ...]
    reverse: str
    statement: str
    copula: re.Pattern[str]
    reversals: tuple[tuple[str, str], ...]
    common: frozenset[str]


#: At most six words on one line, with or without quotes around them.
_TERM = r"[\"'“„]?(?P<term>[^\s?!.:\"'”“]+(?:[ ][^\s?!.:\"'”“]+){0,5}?)[\"'”“]?"
_SUBJECT = r"(?P<subject>\S+(?:\s\S+){0,5}?)"
#: A sentence that begins with one of these says nothing without the one before it.
_NOT_IT = r"(?!(?:it|this|that|these|those|he|she|they|we|you|i|there|here|what|who|which|where|when|how|if|but|and)\b)"
_NICHT_ES = r"(?!(?:es|das|dies|dieser|diese|dieses|er|sie|wir|ihr|ich|du|was|wer|wo|wann|wie|wenn|aber|und|hier|da)\b)"

WORDINGS: Mapping[Language, Wording] = {
    Language.ENGLISH: Wording(
        asks=re.compile(
            rf"(?:what (?:is|are|does)|what's|define|explain)(?: the (?:term|word|acronym|meaning of))?:? {_TERM}"
            r"(?: (?:mean|stand for))?\s*[?.!]*",
            re.IGNORECASE,
        ),
        rephrasings=("What does {term} mean?", "Define {term}.", "Explain the term {term}."),
        reverse="Which term has this meaning? {definition}",
        statement="{term} means: {definition}",
        copula=re.compile(rf"{_NOT_IT}{_SUBJECT} (?P<verb>is|are|was|were|means) (?P<rest>[^;:?!]+)", re.IGNORECASE),
        reversals=(
            ("means ", "{rest} is what {subject} means"),
            ("is the ", "{rest} is {subject}"),
            ("are the ", "{rest} are {subject}"),
            ("was the ", "{rest} was {subject}"),
            ("were the ", "{rest} were {subject}"),
            ("is a ", "one example of {rest} is {subject}"),
            ("is an ", "one example of {rest} is {subject}"),
        ),
        common=frozenset("the of and to in is that for it with as on are this be by an or not".split()),
    ),
    Language.GERMAN: Wording(
        asks=re.compile(
            rf"(?:was (?:ist|sind|bedeutet|heißt)|definiere|erkläre)(?: (?:der|den|das) (?:Begriff|Wort))?:? {_TERM}"
            r"\s*[?.!]*",
            re.IGNORECASE,
        ),
        rephrasings=("Was bedeutet {term}?", "Definiere {term}.", "Erkläre den Begriff {term}."),
        reverse="Welcher Begriff hat diese Bedeutung? {definition}",
        statement="{term} bedeutet: {definition}",
        copula=re.compile(rf"{_NICHT_ES}{_SUBJECT} (?P<verb>ist|sind|war|waren) (?P<rest>[^;:?!]+)", re.IGNORECASE),
        # Only the definite article: after others, the reversed sentence needs another case.
        reversals=tuple(
            (f"{verb} {article} ", f"{{rest}} {verb} {{subject}}")
            for verb in ("ist", "sind", "war", "waren")
            for article in ("der", "die", "das")
        ),
        common=frozenset("der die das und ist nicht ein eine zu den mit von für auf dem sich des im als auch".split()),
    ),
}


def language_of(text: str) -> Language | None:
    """Return the language of a text by its frequent words; None where neither language has more of them."""
    words = re.findall(r"\w+", text.casefold())
    counts = {language: sum(word in wording.common for word in words) for language, wording in WORDINGS.items()}
    most = max(counts.values())
    leading = [language for language, count in counts.items() if count == most]
    return leading[0] if most and len(leading) == 1 else None
