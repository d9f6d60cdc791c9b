"""The section `findings.json`: findings about a version with their numbers, thresholds and status."""

from __future__ import annotations

from typing import Any

from deltadex.evidence.facts import EvidenceFacts
from deltadex.evidence.source import PackSource, as_json
from deltadex.findings.kinds import KINDS
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.titles import title


def text(source: PackSource) -> str:
    """Return the section."""
    facts = source.facts
    thresholds = source.settings.thresholds
    return as_json(
        {
            "model": facts.label,
            "note": "Each finding has the threshold that it was made with. One that concerns a hidden model has no "
            "numbers. The settings are those of now.",
            "findings": [_described(facts, one) for one in facts.findings],
            "settings": dict(thresholds),
            "units": {kind.value: info.unit for kind, info in KINDS.items() if info.unit},
        }
    )


def is_masked(row: ReviewRow) -> bool:
    """Return True if a finding concerns a model that the person who asks may not see."""
    return any(version.registered.ref.is_hidden for version in row.versions)


def status_words(row: ReviewRow) -> str:
    """Return the status of a finding in words; a request is no decision."""
    return "waits for approval" if row.review.requested_by else row.review.status.replace("_", " ")


def _described(facts: EvidenceFacts, row: ReviewRow) -> dict[str, Any]:
    found = row.finding
    return {
        "id": row.id,
        "kind": found.kind,
        "title": None if is_masked(row) else title(row),
        "severity": row.severity,
        "status": row.review.status,
        "waits_for_approval": bool(row.review.requested_by),
        "is_found": row.is_found,
        "versions": [facts.names.name(version) for version in row.versions],
        "measure": found.measure,
        "threshold": found.threshold,
        "unit": KINDS[found.kind].unit,
        "evidence": dict(found.evidence),
        "assigned_to": row.assignee,
        "due_at": row.due_at.isoformat(),
        "first_seen": row.first_seen.isoformat(),
        "last_measured": row.last_measured.isoformat(),
    }
