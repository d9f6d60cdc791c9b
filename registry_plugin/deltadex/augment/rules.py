"""Rules that rephrase and reverse single examples. Each yields candidates; none needs a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deltadex.augment.augmented import Origin, asked, with_asked
from deltadex.augment.wordings import WORDINGS, Wording, language_of
from deltadex.engine.examples import Example

#: Before the answer, where an example's prompt becomes what is asked for.
SWAPPED = "Write the prompt that has this answer.\n\n{completion}"
_FRAMED = "Input:\n{prompt}\n\nOutput:\n"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\s\da-z])")
_BULLET = re.compile(r"\s*[-*•–]\s+\S")
#: `term: definition` on one line. Code such as `x = 3` or `key:value` does not match.
_GLOSSARY = re.compile(r"(?P<term>[^\s:]+(?: [^\s:]+){0,5})(?P<between>: | – | — | - )(?P<definition>\S+(?: \S+){2,})")


@dataclass(frozen=True)
class Rewriting:
    """A rule that makes examples from one, by its name.

    Attributes
    ----------
    candidates
        Yields examples that say the same, in other words or in another order.
    is_neutral
        True if it applies to every language.
    """

    name: str
    origin: Origin
    candidates: Callable[[Example], Iterator[Example]]
    is_neutral: bool = False


def _definition_reversed(example: Example) -> Iterator[Example]:
    for wording, term in _definitions(example):
        text = wording.reverse.format(definition=example.completion.strip())
        yield with_asked(example, text, completion=_like(example.completion, term))


def _definition_as_statement(example: Example) -> Iterator[Example]:
    for wording, term in _definitions(example):
        yield Example("", wording.statement.format(term=term, definition=example.completion.strip()))


def _definition_asked_otherwise(example: Example) -> Iterator[Example]:
    for wording, term in _definitions(example):
        for form in wording.rephrasings:
            if (text := form.format(term=term)) != asked(example).strip():
                yield with_asked(example, text)


def _statement_reversed(example: Example) -> Iterator[Example]:
    wording = _wording_of(example.completion)
    sentences = _sentences(example.completion)
    for place, sentence in enumerate(sentences):
        if wording and (turned := _turned(sentence, wording)):
            text = " ".join([*sentences[:place], turned, *sentences[place + 1 :]])
            yield with_asked(example, asked(example), completion=_like(example.completion, text))


def _glossary_reversed(example: Example) -> Iterator[Example]:
    if not asked(example) and (found := _GLOSSARY.fullmatch(example.completion.strip())):
        yield Example(example.prompt, "{definition}{between}{term}".format(**found.groupdict()))


def _swapped(example: Example) -> Iterator[Example]:
    if prompt := asked(example).strip():
        yield with_asked(example, SWAPPED.format(completion=example.completion.strip()), completion=prompt)


def _list_reordered(example: Example) -> Iterator[Example]:
    lines = example.completion.splitlines()
    places = [place for place, line in enumerate(lines) if _BULLET.match(line)]
    if len(places) >= 3 and places == list(range(places[0], places[-1] + 1)):
        first, end = places[0], places[-1] + 1
        reordered = [*lines[:first], *reversed(lines[first:end]), *lines[end:]]
        yield with_asked(example, asked(example), completion="\n".join(reordered))


def _sentences_reordered(example: Example) -> Iterator[Example]:
    """Move the second sentence to the end: the first often says what the others are about."""
    sentences = _sentences(example.completion)
    if len(sentences) >= 3:
        text = " ".join([sentences[0], *sentences[2:], sentences[1]])
        yield with_asked(example, asked(example), completion=_like(example.completion, text))


def _framed(example: Example) -> Iterator[Example]:
    if isinstance(example.prompt, str) and example.prompt.strip():
        yield with_asked(example, _FRAMED.format(prompt=example.prompt.strip()))


#: In the order in which their candidates are taken, where an example may have only a few.
REWRITINGS = (
    Rewriting("definition to term", Origin.REVERSED, _definition_reversed),
    Rewriting("B is A", Origin.REVERSED, _statement_reversed),
    Rewriting("definition: term", Origin.REVERSED, _glossary_reversed, is_neutral=True),
    Rewriting("question and answer as a statement", Origin.REPHRASED, _definition_as_statement),
    Rewriting("answer to prompt", Origin.REVERSED, _swapped, is_neutral=True),
    Rewriting("question in other words", Origin.REPHRASED, _definition_asked_otherwise),
    Rewriting("items in another order", Origin.REVERSED, _list_reordered, is_neutral=True),
    Rewriting("sentences in another order", Origin.REVERSED, _sentences_reordered, is_neutral=True),
    Rewriting("prompt in a frame", Origin.REPHRASED, _framed, is_neutral=True),
)


def _definitions(example: Example) -> Iterator[tuple[Wording, str]]:
    """Yield the wording and the term if an example asks for the meaning of one."""
    prompt = asked(example).strip()
    if len(example.completion.split()) < 2:  # no definition, but the answer to an ordinary question
        return
    for wording in WORDINGS.values():
        if found := wording.asks.fullmatch(prompt):
            yield wording, found["term"]
            return


def _wording_of(text: str) -> Wording | None:
    language = language_of(text)
    return None if language is None else WORDINGS[language]


def _sentences(text: str) -> list[str]:
    """Return the sentences of one paragraph of prose; none for anything else, such as code or a list."""
    stripped = text.strip()
    if "\n" in stripped or not stripped.endswith((".", "!", "?")):
        return []
    return _SENTENCE_END.split(stripped)


def _turned(sentence: str, wording: Wording) -> str:
    """Return "B is A." for "A is B."; empty where no reversal is sound."""
    found = wording.copula.fullmatch(sentence.rstrip(".!"))
    if found is None:
        return ""
    subject, verb, rest = found["subject"], found["verb"].lower(), found["rest"].strip()
    said = f"{verb} {rest.lower()} "
    form = next((form for start, form in wording.reversals if said.startswith(start)), None)
    if form is None:
        return ""
    text = form.format(rest=rest, subject=_inside(subject, wording))
    return f"{text[0].upper()}{text[1:]}."


def _inside(subject: str, wording: Wording) -> str:
    """Return a subject as it stands within a sentence: a leading frequent word, such as an article, in lower case."""
    first, space, others = subject.partition(" ")
    return f"{first.lower()}{space}{others}" if space and first.lower() in {*wording.common, "a"} else subject


def _like(text: str, other: str) -> str:
    """Return the other text with the leading space of the first, which belongs to the first token of an answer."""
    return f"{text[: len(text) - len(text.lstrip())]}{other}"
