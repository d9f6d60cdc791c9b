"""Texts of the probes, as people read them."""

from __future__ import annotations

from deltadex.engine.probes import CONTENT_PROBES, PAPER_PROBES, probe_labels


def test_probes_are_told_apart_by_what_they_do_not_share() -> None:
    assert CONTENT_PROBES.distinct_parts[:2] == ("The committee decided that", "In the beginning of spring")
    assert CONTENT_PROBES.distinct_parts[-1] == "SELECT name FROM"
    first, *_, last = PAPER_PROBES.distinct_parts
    assert first.startswith("Below is an instruction that describes a task.")
    assert last.endswith("completes the task as requested")


def test_probes_of_an_unknown_set_have_numbers() -> None:
    assert probe_labels("content-5", 5) == CONTENT_PROBES.distinct_parts
    assert probe_labels("of-tomorrow", 2) == probe_labels("content-5", 2) == ("probe 1", "probe 2")
