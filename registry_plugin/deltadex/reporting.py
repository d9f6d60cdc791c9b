"""What the governance report says, read from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from deltadex import reviews
from deltadex.domain import State, VersionRow
from deltadex.governance.access import Person
from deltadex.governance.report import Report, Table
from deltadex.settings import Settings, ThresholdSettings
from deltadex.store import embeddings, versions
from deltadex.store.database import Transaction
from deltadex.store.embeddings import RecipeRow
from deltadex.store.reviews import Chain, LogEntry, ReviewRow

_ALL = 1_000_000


def governance_report(tx: Transaction, settings: Settings, person: Person) -> Report:
    """Return everything that is known about one registry, as tables, with models masked that the person may not see."""
    listed = versions.listing(tx, settings.registry, states=set(State) - {State.DELETED})
    rows = [person.view(row) for row in listed]
    tables = (
        coverage_table(rows),
        findings_table(reviews.listing(tx, person, settings)),
        decisions_table(reviews.log(tx, person, settings, limit=_ALL)),
        _thresholds(settings.thresholds),
        _recipes(embeddings.recipes(tx, settings.registry)),
        versions_table(rows),
    )
    hashes = _hashes(tables, reviews.verify(tx, person))
    return Report(settings.registry, datetime.now(UTC), (*tables, hashes))


def coverage_table(rows: Sequence[VersionRow]) -> Table:
    """Return how many versions are in which state."""
    counts = Counter(row.state for row in rows)
    return Table(
        "coverage",
        "Coverage",
        ("state", "versions", "share"),
        tuple((state.value, count, count / len(rows)) for state in State if (count := counts[state])),
        note=f"{len({row.registered.ref.name for row in rows}):,} registered models with {len(rows):,} versions.",
    )


def versions_table(rows: Sequence[VersionRow]) -> Table:
    """Return versions with their state and the digest of their weights."""
    return Table(
        "versions",
        "Model versions",
        ("model", "version", "state", "registered", "team", "aliases", "weights digest", "reason"),
        tuple(
            (
                row.registered.ref.name,
                row.registered.ref.version,
                row.state.value,
                datetime.fromtimestamp(row.registered.ref.created_ms / 1000, UTC),
                row.registered.tags.get("team"),
                ", ".join(row.registered.aliases),
                row.weights_digest,
                row.reason,
            )
            for row in rows
        ),
    )


def findings_table(found: Sequence[ReviewRow]) -> Table:
    """Return findings with the numbers that they rest on and where they stand."""
    return Table(
        "findings",
        "Findings",
        ("finding", "kind", "severity", "status", "version", "other version", "measure", "threshold", "owner",
         "assigned to", "due", "first seen"),
        tuple(
            (
                one.id,
                _spoken(one.finding.kind),
                one.severity.value,
                _spoken(one.review.status),
                one.version.label,
                one.other.label if one.other else None,
                one.finding.measure,
                one.finding.threshold,
                one.owner,
                one.assignee,
                one.due_at,
                one.first_seen,
            )
            for one in found
        ),
        note="Cosine similarity for near duplicates, cosine distance for drift, strength for what is too weak.",
    )  # fmt: skip


def decisions_table(entries: Sequence[LogEntry]) -> Table:
    """Return what was done about findings, on which numbers, newest first."""
    return Table(
        "decisions",
        "Decisions",
        ("at", "who", "did", "reason", "comment", "finding", "kind", "version", "other version", "measure", "rule",
         "hash"),
        tuple(
            (
                one.decided_at,
                one.reviewer,
                _spoken(one.action),
                _spoken(one.reason),
                one.comment,
                one.review_id,
                _spoken(one.kind),
                one.subject,
                one.other_subject,
                one.measure,
                one.rule,
                one.hash,
            )
            for one in entries
        ),
        note="Entries are only added. Each carries a hash of the one before: `deltadex review verify` checks them.",
    )  # fmt: skip


def _spoken(text: str) -> str:
    return text.replace("_", " ")


def _thresholds(thresholds: ThresholdSettings) -> Table:
    return Table(
        "thresholds",
        "Thresholds",
        ("setting", "value", "is"),
        tuple((name, value, type(thresholds).model_fields[name].description) for name, value in thresholds),
        note="As they are set now. Every finding carries the one that it was made with.",
    )


def _recipes(recipes: Sequence[RecipeRow]) -> Table:
    return Table(
        "recipes",
        "Recipes",
        ("base model", "versions", "dimension", "recipe digest", "base weights digest", "noise floor"),
        tuple(
            (one.base_name, one.embedded, one.dimension, one.digest, one.base_digest, one.noise_floor)
            for one in recipes
        ),
        note="Only embeddings of an equal recipe are ever compared.",
    )


def _hashes(tables: Sequence[Table], chain: Chain) -> Table:
    return Table(
        "hashes",
        "Hashes",
        ("what", "entries", "SHA-256"),
        (
            *((f"{table.title} as CSV", len(table.rows), table.digest) for table in tables),
            ("Head of the log" if chain.broken is None else "HEAD OF A BROKEN LOG", chain.entries, chain.head or None),
        ),
        note="`deltadex report --table NAME --output FILE.csv` writes the bytes that these are of.",
    )
