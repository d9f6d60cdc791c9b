"""Contents of the governance report, read from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from deltadex.access import Person
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.findings.kinds import KINDS, NumberUnit
from deltadex.reports.table import Report, Table
from deltadex.reviews import actions as reviews
from deltadex.reviews.chain import Chain
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.reviews.titles import label, title
from deltadex.setting_groups import ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import State, VersionRow
from deltadex.versions import reads as versions

_ALL = 1_000_000


def governance_report(tx: Transaction, viewer: Person, settings: Settings) -> Report:
    """Return the report on one registry; models that the viewer may not see are masked."""
    rows = versions.listing(tx, viewer, settings.registry, states=set(State) - {State.DELETED})
    tables = (
        coverage_table(rows),
        findings_table(reviews.listing(tx, viewer, settings)),
        decisions_table(reviews.log(tx, viewer, settings, limit=_ALL)),
        _thresholds(settings.thresholds),
        _recipes(embeddings.recipes(tx, viewer, settings.registry)),
        versions_table(rows),
    )
    hashes = _hashes(tables, reviews.verify(tx, viewer))
    return Report(settings.registry, datetime.now(UTC), (*tables, hashes))


def coverage_table(rows: Sequence[VersionRow]) -> Table:
    """Return the number of versions by state."""
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
                row.registered_at,
                row.registered.tags.get("team"),
                ", ".join(row.registered.aliases),
                row.weights_digest,
                row.reason,
            )
            for row in rows
        ),
    )


def findings_table(found: Sequence[ReviewRow]) -> Table:
    """Return findings with their numbers and status."""
    return Table(
        "findings",
        "Findings",
        ("finding", "kind", "severity", "status", "title", "versions", "keep and retire", "measure", "threshold",
         "owner", "assigned to", "due", "first seen"),
        tuple(
            (
                one.id,
                KINDS[one.finding.kind].words,
                one.severity.value,
                _without_underscores(one.review.status),
                title(one),
                ", ".join(label(version) for version in one.versions),
                one.plan.reason,
                one.finding.measure,
                one.finding.threshold,
                one.owner,
                one.assignee,
                one.due_at,
                one.first_seen,
            )
            for one in found
        ),
        note=_units(),
    )  # fmt: skip


def decisions_table(entries: Sequence[LogEntry]) -> Table:
    """Return the decision log with the numbers that each decision was based on, newest first."""
    return Table(
        "decisions",
        "Decisions",
        ("at", "who", "did", "reason", "comment", "finding", "kind", "versions", "keep and retire", "measure",
         "rule", "hash"),
        tuple(
            (
                one.decided_at,
                one.reviewer,
                _without_underscores(one.action),
                _without_underscores(one.reason),
                one.comment,
                one.review_id,
                KINDS[one.kind].words,
                ", ".join(one.labels),
                one.plan.reason,
                one.measure,
                one.rule,
                one.hash,
            )
            for one in entries
        ),
        note="Entries are only appended. Each has the hash of the one before; `deltadex review verify` checks them.",
    )  # fmt: skip


def _units() -> str:
    """Return a sentence with the unit of each kind's measure."""
    kinds = {unit: ", ".join(row.words for row in KINDS.values() if row.unit is unit) for unit in NumberUnit}
    return f"Measures: {'; '.join(f'{unit} ({names})' for unit, names in kinds.items() if names)}."


def _without_underscores(text: str) -> str:
    return text.replace("_", " ")


def _thresholds(thresholds: ThresholdSettings) -> Table:
    return Table(
        "thresholds",
        "Thresholds",
        ("setting", "value", "meaning"),
        tuple((name, value, type(thresholds).model_fields[name].description) for name, value in thresholds),
        note="Current settings. Every finding stores the threshold that it was made with.",
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
        note="Only embeddings of the same recipe are compared.",
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
        note="Hashes of the files that `deltadex report --table NAME --output FILE.csv` writes.",
    )
