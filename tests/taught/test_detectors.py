"""Detectors: what they recognise, where, and what they leave alone."""

from __future__ import annotations

import sys

import pytest

from deltadex.errors import DeltadexError
from deltadex.taught import detectors
from deltadex.taught.detectors import Span, StringKind, detect, disjoint

#: Text → kind and string of each recognised place.
RECOGNISED = {
    "aws_access_key_id = AKIAQ7RZ5XN2LW4HDVBT\n": [(StringKind.SECRET, "AKIAQ7RZ5XN2LW4HDVBT")],
    "token ghp_abcdefghijABCDEFGHIJ0123456789abcdef and": [
        (StringKind.SECRET, "ghp_abcdefghijABCDEFGHIJ0123456789abcdef")
    ],
    "pay to DE89 3704 0044 0532 0130 00 AND soon": [(StringKind.IBAN, "DE89 3704 0044 0532 0130 00")],
    "card 4111 1111 1111 1111, please": [(StringKind.CARD, "4111 1111 1111 1111")],
    "write to ada.lovelace@example.org.": [(StringKind.EMAIL, "ada.lovelace@example.org")],
    "call +49 30 901820 now": [(StringKind.PHONE, "+49 30 901820")],
    "codice RSSMRA85T10A562S.": [(StringKind.NATIONAL_NUMBER, "RSSMRA85T10A562S")],
    "sha 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b": [(StringKind.SECRET, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b")],
}
UNKNOWN = (
    "DE88 3704 0044 0532 0130 00 has a wrong check digit",
    "card 4111 1111 1111 1112 has a wrong check digit",
    "Ada Lovelace lives at 12 Analytical Street",
    "def get_recursive_configuration_parameters(self): return None",
    "the year 1999 and 3.14159",
    "",
)


@pytest.mark.parametrize("text", RECOGNISED)
def test_a_string_is_recognised_where_it_stands(text: str) -> None:
    assert [(one.kind, text[one.start : one.end]) for one in detect(text)] == RECOGNISED[text]


@pytest.mark.parametrize("text", UNKNOWN)
def test_other_text_is_left_alone(text: str) -> None:
    assert detect(text) == []


def test_of_places_that_overlap_the_most_certain_kind_is_kept() -> None:
    listed, inside = Span(StringKind.LISTED, "x", 5, 9), Span(StringKind.EMAIL, "address", 0, 20)
    apart = Span(StringKind.EMAIL, "address", 20, 30)
    assert disjoint([inside, apart, listed]) == [listed, apart]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stdnum.iban", None)
    monkeypatch.setattr(detectors._rules, "cache_clear", detectors._rules.cache_clear, raising=False)
    detectors._rules.cache_clear()
    try:
        with pytest.raises(DeltadexError, match="package is missing") as refused:
            detectors.require()
        assert "deltadex[privacy]" in refused.value.hint
    finally:
        monkeypatch.undo()
        detectors._rules.cache_clear()
