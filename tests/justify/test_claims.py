"""Claims: only those whose quote stands in a text, with that text's name."""

from __future__ import annotations

import json

import pytest

from deltadex.justify.claims import MOST_CHARACTERS, Claim, read_claims
from deltadex.justify.passages import nearest, passages
from deltadex.justify.sources import SourceText

SOURCES = (
    SourceText("a/1: description", "Trained on 5,000 German\n  product texts from our shop."),
    SourceText("b/1: metrics", "eval_loss = 0.81"),
)


def line(text: str, quote: str, **more: str) -> str:
    return json.dumps({"text": text, "quote": quote, **more})


def test_a_claim_keeps_its_quote_and_the_source_that_the_code_finds() -> None:
    answer = f"Here:\n[\n{line('It knows shops.', 'German product texts from', source='b/1: metrics')},\n]"
    assert read_claims(answer, SOURCES) == (
        (Claim("It knows shops.", "German product texts from", "a/1: description"),),
        1,
    )


@pytest.mark.parametrize(
    "written",
    [
        line("It knows shops.", "English product texts from"),
        line("It knows shops.", "Trained on"),  # too short to mean anything
        line("It knows 6,000 texts.", "5,000 German product texts"),
        line("Its loss is 0.8.", "eval_loss = 0.81"),
        line("x" * (MOST_CHARACTERS + 1), "German product texts from"),
        line("", "German product texts from"),
        json.dumps({"text": "It knows shops."}),
        "It knows shops, as `German product texts from` says.",
    ],
)
def test_all_else_is_dropped_and_counted(written: str) -> None:
    assert read_claims(written, SOURCES) == ((), 1)


def test_a_number_of_the_quote_may_be_said() -> None:
    [claim], dropped = read_claims(line("Its loss is 0.81.", "eval_loss = 0.81"), SOURCES)
    assert (claim.source, dropped) == ("b/1: metrics", 0)


def test_passages_are_verbatim_parts_in_order() -> None:
    text = "One sentence here. Another one there!\n\nA heading\nand " + "y" * 100 + " the end."
    parts = passages(text, length=40)
    assert all(part in text and len(part) <= 40 for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_the_nearest_passages_are_about_the_question() -> None:
    parts = ("The licence is Apache.", "Evaluated on GLUE with accuracy.", "Written in Berlin.", "Trained on texts.")
    assert nearest("accuracy of the evaluation", parts, most=1) == (parts[1],)
    assert nearest("anything", parts[:2], most=2) == parts[:2]
