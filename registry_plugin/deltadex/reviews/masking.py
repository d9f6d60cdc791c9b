"""Findings and log entries as a viewer may see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from deltadex.access import HIDDEN, Person
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.store.database import Transaction
from deltadex.types import Finding, VersionRow
from deltadex.versions import queries as versions

#: Evidence whose value is a tag of other versions.
_LABEL = "moves_like"


def sees_all(person: Person, versions: Iterable[VersionRow]) -> bool:
    """Return True if a person may see all these versions."""
    return all(person.sees(version.registered.ref.name) for version in versions)


def masked(person: Person, row: ReviewRow) -> ReviewRow:
    """Return a row as the person may see it: without numbers, evidence and names if one of its models is hidden.

    A group may have left a hidden version behind, at which it is stored, or which an earlier decision names.
    """
    if person.sees_all:
        return row
    row = replace(
        row,
        version=person.view(row.version),
        other=row.other and person.view(row.other),
        members=tuple(person.view_each(row.members)),
        last=row.last and masked_entry(person, row.last),
        ruling=row.ruling and masked_entry(person, row.ruling),
    )
    if all(version.registered.ref.name != HIDDEN for version in row.versions):
        return row
    finding = Finding(row.finding.kind, row.finding.version_id, row.finding.other_id)
    return replace(row, finding=finding, review=replace(row.review, decided_on=None))


def without_labels(tx: Transaction, person: Person, registry: str, rows: list[ReviewRow]) -> list[ReviewRow]:
    """Hide `moves_like` labels that only hidden models carry."""
    labels = {str(row.finding.evidence[_LABEL]) for row in rows if _LABEL in row.finding.evidence}
    if person.sees_all or not labels:
        return rows
    seen = {label for name, label in versions.models_tagged(tx, registry, labels) if person.sees(name)}
    return [
        row if row.finding.evidence.get(_LABEL) in {None, *seen} else _with_evidence(row, {_LABEL: HIDDEN})
        for row in rows
    ]


def _with_evidence(row: ReviewRow, evidence: Mapping[str, object]) -> ReviewRow:
    return replace(row, finding=replace(row.finding, evidence={**row.finding.evidence, **evidence}))


def masked_entry(person: Person, entry: LogEntry) -> LogEntry:
    """Return a log entry as the person may see it."""
    if all(person.sees(model) for model in entry.models):
        return entry
    other = entry.other_subject and HIDDEN
    return replace(
        entry, subject=HIDDEN, other_subject=other, models=(), measure=None, threshold=None, reason="", comment="",
        evidence={},
    )  # fmt: skip
