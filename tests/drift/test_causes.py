"""Differences between the trainings of two versions."""

from __future__ import annotations

from deltadex.drift.causes import differences, in_words
from deltadex.versions.differences import Difference
from tests.duplicates.test_levels import version

BEFORE = {"data": {"dataset": "translation-2"}, "code": {"commit": "a"}, "parameters": {"lr": "1e-3", "r": "8"}}
AFTER = {"data": {"dataset": "legal-2"}, "code": {"commit": "a"}, "parameters": {"lr": "1e-3", "rank": "8"}}


def test_data_comes_first_then_tags_code_and_parameters_and_what_tools_tag_is_left_out() -> None:
    older = version(0, tags={"domain": "translation", "deltadex.similar": "x"})
    newer = version(1, tags={"domain": "legal", "mlflow.note": "y"})
    found = differences(older, newer, BEFORE, {**AFTER, "code": {"commit": "b"}})
    assert found == (
        Difference("dataset", "translation-2", "legal-2"),
        Difference("tag domain", "translation", "legal"),
        Difference("commit", "a", "b"),
        Difference("r", "8", None),
        Difference("rank", None, "8"),
    )
    assert in_words(found) == (
        "dataset: translation-2 → legal-2; tag domain: translation → legal; commit: a → b; and 2 more"
    )
    assert str(found[-1]) == "rank: none → 8"


def test_equal_trainings_do_not_differ() -> None:
    assert differences(version(0), version(1), BEFORE, BEFORE) == ()
    assert in_words(()) == ""
