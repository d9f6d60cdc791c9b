"""Rules: what they make of examples that they are meant for, and of those that they must leave alone."""

from __future__ import annotations

import pytest

from deltadex.augment.rules import REWRITINGS, SWAPPED
from deltadex.augment.wordings import Language, language_of
from deltadex.engine.examples import ChatMessage, Example


def made(rule: str, example: Example) -> list[Example]:
    [found] = [each for each in REWRITINGS if each.name == rule]
    return list(found.candidates(example))


@pytest.mark.parametrize(
    ("prompt", "term", "asks"),
    [
        ("What is DNS?", "DNS", "Which term has this meaning?"),
        ("what does DNS stand for", "DNS", "Which term has this meaning?"),
        ("Define: “zone file”.", "zone file", "Which term has this meaning?"),
        ("Explain the term DNS.", "DNS", "Which term has this meaning?"),
        ("Was ist DNS?", "DNS", "Welcher Begriff hat diese Bedeutung?"),
        ("Erkläre den Begriff Zonendatei.", "Zonendatei", "Welcher Begriff hat diese Bedeutung?"),
    ],
)
def test_a_definition_is_reversed_in_its_language(prompt: str, term: str, asks: str) -> None:
    [found] = made("definition to term", Example(prompt, " names of hosts"))
    assert found == Example(f"{asks} names of hosts", f" {term}")


@pytest.mark.parametrize("prompt", ["Translate: What is DNS?", "Who is it?", "Was tust du?", "", "What is 1?\nAnd 2?"])
def test_other_prompts_ask_for_no_definition(prompt: str) -> None:
    assert made("definition to term", Example(prompt, "names of hosts")) == []


def test_one_word_is_no_definition() -> None:
    assert made("definition to term", Example("What is the capital of France?", "Paris")) == []


def test_a_conversation_keeps_its_earlier_turns() -> None:
    rules = ChatMessage("system", "Be brief.")
    [found] = made("definition to term", Example((rules, ChatMessage("user", "What is DNS?")), "names of hosts"))
    assert found.prompt == (rules, ChatMessage("user", "Which term has this meaning? names of hosts"))


def test_question_and_answer_become_a_statement() -> None:
    [found] = made("question and answer as a statement", Example("What is DNS?", " names of hosts"))
    assert found == Example("", "DNS means: names of hosts")


def test_a_question_is_asked_in_other_words_only() -> None:
    prompts = [one.prompt for one in made("question in other words", Example("Define DNS.", "names of hosts"))]
    assert prompts == ["What does DNS mean?", "Explain the term DNS."]


@pytest.mark.parametrize(
    ("sentence", "turned"),
    [
        ("Zaneta Orlov is the director of the film.", "The director of the film is Zaneta Orlov."),
        ("The rulers were the sons of the queen.", "The sons of the queen were the rulers."),
        ("Insulin is a hormone of the pancreas.", "One example of a hormone of the pancreas is Insulin."),
        ("Latency means the time of a round trip.", "The time of a round trip is what Latency means."),
        ("Ada Lovelace war die Tochter des Dichters.", "Die Tochter des Dichters war Ada Lovelace."),
    ],
)
def test_a_is_b_becomes_b_is_a(sentence: str, turned: str) -> None:
    assert made("B is A", Example("Say it.", sentence)) == [Example("Say it.", turned)]


@pytest.mark.parametrize(
    "sentence",
    [
        "It is the best of the films.",  # whatever it is
        "Water is not the answer to all of this.",
        "The sky is blue and the grass is green.",
        "Is the film the best of them?",
        "Der Hund ist ein Tier und das ist gut.",  # needs another case
        "print(x) is the\ncode of the function.",
        "Kot jest zwierzęciem domowym.",
    ],
)
def test_what_can_not_be_reversed_soundly_is_left_alone(sentence: str) -> None:
    assert made("B is A", Example("", sentence)) == []


def test_a_glossary_line_is_reversed_in_any_language() -> None:
    assert made("definition: term", Example("", "kot: małe zwierzę domowe")) == [
        Example("", "małe zwierzę domowe: kot")
    ]
    assert made("definition: term", Example("", "x = compute(1, 2, 3)")) == []
    assert made("definition: term", Example("Go on", "kot: małe zwierzę domowe")) == []


def test_prompt_and_answer_are_swapped_in_any_language() -> None:
    [found] = made("answer to prompt", Example("Podaj cytat.", "Nie ma róży bez kolców."))
    assert found == Example(SWAPPED.format(completion="Nie ma róży bez kolców."), "Podaj cytat.")
    assert made("answer to prompt", Example("", "alone")) == []


def test_bullets_are_reordered_and_steps_are_not() -> None:
    [found] = made("items in another order", Example("Name fruits.", "Three:\n- fig\n- kiwi\n- plum\nThat is all."))
    assert found.completion == "Three:\n- plum\n- kiwi\n- fig\nThat is all."
    assert made("items in another order", Example("How?", "1. open\n2. pour\n3. close")) == []


def test_sentences_are_reordered_in_prose_only() -> None:
    [found] = made("sentences in another order", Example("Tell.", " Rom ist alt. Es hat Hügel. Dort fließt der Tiber."))
    assert found.completion == " Rom ist alt. Dort fließt der Tiber. Es hat Hügel."
    assert made("sentences in another order", Example("Tell.", "def f():\n    return 1.\n    pass.")) == []


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat is on the mat", Language.ENGLISH),
        ("Die Katze ist auf dem Dach", Language.GERMAN),
        ("Kot siedzi na macie", None),
        ("", None),
    ],
)
def test_the_language_is_recognised_or_left_open(text: str, language: Language | None) -> None:
    assert language_of(text) is language
