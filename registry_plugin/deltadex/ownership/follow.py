"""Findings about attestations, judged in every round of the watcher: a date passes without any event."""

from __future__ import annotations

from deltadex.ownership import queries
from deltadex.ownership.attestation import judge_attestation
from deltadex.ownership.reads import ownership_of
from deltadex.settings import Settings
from deltadex.store import clock
from deltadex.store.database import Transaction


def judge_attestations(tx: Transaction, settings: Settings) -> None:
    """Replace the findings about missing, outdated and expired attestations by those of today."""
    today = clock.now(tx).date()
    rows = queries.records(tx, settings.registry, tiers=settings.ownership.must_attest)
    found = [
        finding
        for row in rows
        for finding in judge_attestation(row.first_id, ownership_of(row, settings.ownership, today=today))
    ]
    queries.replace_findings(tx, settings.registry, found)
