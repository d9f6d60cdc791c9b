"""Findings and log entries as a viewer may see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from deltadex.access import HIDDEN, Person
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.store.database import Transaction
from deltadex.types import NAMED, Finding, VersionRow
from deltadex.versions import queries as versions

#: Evidence whose value is a tag of other versions.
_LABEL = "moves_like"


def sees_all(person: Person, versions: Iterable[VersionRow]) -> bool:
    """Return True if a person may see all these versions."""
    return all(person.sees(version.registered.ref.name) for version in versions)


def masked(tx: Transaction, person: Person, registry: str, rows: Sequence[ReviewRow]) -> list[ReviewRow]:
    """Return rows as the person may see them: without numbers, evidence and names if one of its models is hidden.

    A group may have left a hidden version behind, at which it is stored, or which an earlier decision names.
    """
    if person.sees_all:
        return [*rows]
    entries = [entry for row in rows for entry in (row.last, row.ruling) if entry]
    hidden = _hidden_labels(tx, person, registry, [*(row.finding.evidence for row in rows), *_evidence(entries)])
    return [_masked_row(person, row, hidden) for row in rows]


def masked_entries(tx: Transaction, person: Person, registry: str, entries: Sequence[LogEntry]) -> list[LogEntry]:
    """Return log entries as the person may see them; one that hides nothing stays equal to itself."""
    if person.sees_all:
        return [*entries]
    hidden = _hidden_labels(tx, person, registry, _evidence(entries))
    return [_masked_entry(person, entry, hidden) for entry in entries]


def _evidence(entries: Iterable[LogEntry]) -> list[Mapping[str, Any]]:
    return [entry.evidence for entry in entries]


def _hidden_labels(
    tx: Transaction, person: Person, registry: str, said: Iterable[Mapping[str, Any]]
) -> frozenset[object]:
    """Return the `moves_like` labels in some evidence that only hidden models carry."""
    labels = {str(each[_LABEL]) for each in said if _LABEL in each}
    carried = versions.models_of_domains(tx, registry, labels) if labels else []
    return frozenset(labels - {label for name, label in carried if person.sees(name)})


def _masked_evidence(person: Person, evidence: Mapping[str, Any], hidden: frozenset[object]) -> Mapping[str, Any]:
    if not all(map(person.sees, evidence.get(NAMED, ()))):
        return {"reason": HIDDEN}
    return {**evidence, _LABEL: HIDDEN} if evidence.get(_LABEL) in hidden else evidence


def _masked_row(person: Person, row: ReviewRow, hidden: frozenset[object]) -> ReviewRow:
    row = replace(
        row,
        finding=replace(row.finding, evidence=_masked_evidence(person, row.finding.evidence, hidden)),
        version=person.view(row.version),
        other=row.other and person.view(row.other),
        members=tuple(person.view_each(row.members)),
        last=row.last and _masked_entry(person, row.last, hidden),
        ruling=row.ruling and _masked_entry(person, row.ruling, hidden),
        # Its cause may name a version that has left the group since.
        review=replace(row.review, decided_on=None),
    )
    if any(version.registered.ref.is_hidden for version in row.versions):
        row = replace(row, finding=Finding(row.finding.kind, row.finding.version_id, row.finding.other_id))
    return row


def _masked_entry(person: Person, entry: LogEntry, hidden: frozenset[object]) -> LogEntry:
    if all(map(person.sees, entry.names)):
        return replace(entry, evidence=_masked_evidence(person, entry.evidence, hidden))
    other = entry.other_subject and HIDDEN
    return replace(
        entry, subject=HIDDEN, other_subject=other, models=(), measure=None, threshold=None, reason="", comment="",
        evidence={},
    )  # fmt: skip
