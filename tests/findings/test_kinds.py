"""The table of finding kinds is complete, and the only one."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

import deltadex
import deltadex_dashboard
import deltadex_flows
from deltadex.findings.kinds import KINDS, Concerns, FindingKindInfo, Reason, Severity, kinds_about
from deltadex.notifications.message import OPENED, Notice, message
from deltadex.reports.governance import decisions_table, findings_table
from deltadex.reviews.lifecycle import Action, Review, Status, tolerance_of
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.reviews.reasons import NEEDS_APPROVAL, Decision, action_of, reasons_for
from deltadex.reviews.tags import tags_of
from deltadex.setting_groups import ReviewSettings
from deltadex.types import Finding, FindingKind, ModelVersionRef, Queue, RegisteredVersion, State, VersionRow
from deltadex_dashboard.elements import finding as page

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PACKAGES = [Path(str(package.__file__)).parent for package in (deltadex, deltadex_flows, deltadex_dashboard)]


def version(number: int) -> VersionRow:
    registered = RegisteredVersion(ModelVersionRef("default", "support", number, number), "runs:/1")
    return VersionRow(number, registered, State.EMBEDDED, NOW, NOW, 1, Queue.FRESH)


def reviewed(kind: FindingKind, *, measure: float | None) -> ReviewRow:
    evidence = {"declared": "sql", "moves_like": "chat", "reason": "it is so"}
    threshold = None if measure is None else 0.5
    entry = LogEntry(
        9, 7, kind, "default:support/2@2", "default:support/1@1", ("support",), measure, threshold, Action.DISMISSED,
        Status.DISMISSED, "sandbox", "why", "ada", "uid 7", "", "", "deltadex", NOW, "hash", is_erased=False,
    )  # fmt: skip
    finding = Finding(kind, 2, 1, measure, threshold, evidence)
    return ReviewRow(
        id=7, revision=1, finding=finding, version=version(2), other=version(1), review=Review(Status.DISMISSED),
        is_found=True, severity=KINDS[kind].severity, assignee="", due_at=NOW, first_seen=NOW, last_measured=NOW,
        status_since=NOW, last=entry,
    )  # fmt: skip


def check(kind: FindingKind, row: FindingKindInfo) -> None:
    """Let everything that handles findings of any kind handle one of this kind."""
    for measure in (None, 0.9) if row.unit else (None,):
        one = reviewed(kind, measure=measure)
        assert one.last is not None
        assert one.severity in Severity
        assert list(tags_of([one], 2)) == [row.tag]
        assert row.label in page.summary(one)
        assert page.numbers(one)
        assert [cells[1] for cells in findings_table([one]).rows] == [row.words]
        assert [cells[6] for cells in decisions_table([one.last]).rows] == [row.words]
        assert [cells[5] for cells in page.log_table([one.last]).rows] == [f"{row.label} (7)"]
    notice = Notice(OPENED, 7, kind, row.severity, (("support", 2), ("support", 1)))
    assert row.words in message([notice], link=None).body
    assert tolerance_of(kind, ReviewSettings()) == getattr(ReviewSettings(), row.tolerance) > 0
    for decision in Decision:
        assert all(isinstance(action_of(kind, decision, reason), Action) for reason in reasons_for(kind, decision))


def test_every_kind_has_one_row() -> None:
    assert list(KINDS) == [row.kind for row in KINDS.values()]
    assert set(KINDS) == set(FindingKind)
    for name in ("label", "words", "tag"):
        assert len({getattr(row, name) for row in KINDS.values()}) == len(KINDS)
    assert sorted(kind for concerns in Concerns for kind in kinds_about(concerns)) == sorted(FindingKind)


@pytest.mark.parametrize("row", KINDS.values(), ids=str)
def test_every_row_is_complete(row: FindingKindInfo) -> None:
    assert row.label == row.label.strip() != ""
    assert row.accepted
    assert row.dismissed
    assert not NEEDS_APPROVAL & set(row.dismissed)
    assert Reason.PUT_RIGHT not in (*row.accepted, *row.dismissed)
    assert row.tolerance in ReviewSettings.model_fields
    # What is said about a number needs a kind that has one.
    assert row.unit is not None or not row.sentence
    assert "{" in row.headline, "a title names its version"
    assert len(row.concerns.roles) == (2 if row.concerns is Concerns.PAIR else 1)
    assert row.page is None or (PACKAGES[2] / "screens" / f"{row.page}.py").is_file()


@pytest.mark.parametrize("row", KINDS.values(), ids=str)
def test_everything_that_handles_findings_handles_every_kind(row: FindingKindInfo) -> None:
    check(row.kind, row)


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> FindingKindInfo:
    """A kind that the code knows nothing of but its name and its row."""
    kind = str.__new__(FindingKind, "unsafe_answers")
    kind._name_, kind._value_ = "UNSAFE_ANSWERS", "unsafe_answers"
    row = replace(KINDS[FindingKind.TOO_WEAK], kind=kind, label="Unsafe answers")
    monkeypatch.setitem(cast(dict[FindingKind, FindingKindInfo], KINDS), kind, row)
    return row


def test_a_new_kind_needs_a_row_and_no_other_table(invented: FindingKindInfo) -> None:
    check(invented.kind, invented)


def test_no_other_table_is_keyed_by_kinds() -> None:
    keyed = {
        path.relative_to(folder).as_posix()
        for folder in PACKAGES
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Dict) and any(_is_kind(key) for key in node.keys)
    }
    assert keyed == set()


def _is_kind(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "FindingKind"
