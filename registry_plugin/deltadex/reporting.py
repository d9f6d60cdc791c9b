"""What the governance report says, read from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from deltadex.domain import State, VersionRow
from deltadex.governance.report import Report, Table
from deltadex.settings import Settings, ThresholdSettings
from deltadex.store import embeddings, findings, versions
from deltadex.store.database import Transaction
from deltadex.store.embeddings import RecipeRow
from deltadex.store.findings import FindingRow


def governance_report(tx: Transaction, settings: Settings) -> Report:
    """Return everything that is known about one registry, as tables."""
    rows = versions.listing(tx, settings.registry, states=set(State) - {State.DELETED})
    tables = (
        coverage_table(rows),
        findings_table(findings.listing(tx, settings.registry)),
        _thresholds(settings.thresholds),
        _recipes(embeddings.recipes(tx, settings.registry)),
        versions_table(rows),
    )
    return Report(settings.registry, datetime.now(UTC), (*tables, _hashes(tables)))


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


def findings_table(found: Sequence[FindingRow]) -> Table:
    """Return findings with the numbers that they rest on."""
    return Table(
        "findings",
        "Findings",
        ("kind", "version", "other version", "measure", "threshold", "found"),
        tuple(
            (
                one.finding.kind.replace("_", " "),
                one.version.label,
                one.other.label if one.other else None,
                one.finding.measure,
                one.finding.threshold,
                one.found_at,
            )
            for one in found
        ),
        note="Cosine similarity for near duplicates, cosine distance for drift, strength for what is too weak.",
    )


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


def _hashes(tables: Sequence[Table]) -> Table:
    return Table(
        "hashes",
        "Hashes",
        ("table", "rows", "SHA-256 of the table as CSV"),
        tuple((table.title, len(table.rows), table.digest) for table in tables),
        note="`deltadex report --table NAME --output FILE.csv` writes the bytes that these are of.",
    )
