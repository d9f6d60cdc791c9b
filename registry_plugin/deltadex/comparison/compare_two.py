"""Comparison of any two versions as a viewer may see them, for the page and `deltadex compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltadex.access import Person
from deltadex.comparison.meaning import meaning, obstacle
from deltadex.drift.compare import Comparison, compare
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.queries import RecipeRow, StoredEmbedding
from deltadex.findings.thresholds import stored_calibration
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import VersionRow, Words
from deltadex.versions import record_queries as training_records
from deltadex.versions.differences import Difference, Facts, differing, shared, training_facts
from deltadex.versions.queries import by_ids
from deltadex.versions.reads import sees_versions
from deltadex.versions.record_queries import Record

_DIGITS_OF_DIGEST = 12


@dataclass(frozen=True)
class Closeness:
    """The similarity of two versions under their common recipe, and its meaning as a sentence."""

    recipe: RecipeRow
    compared: Comparison
    meaning: str

    @property
    def similarity(self) -> float:
        """Cosine similarity, in [-1, 1]."""
        return 1 - self.compared.move.distance


@dataclass(frozen=True)
class TwoVersions:
    """Two versions side by side.

    Attributes
    ----------
    differences
        What differs, each with its part: data, tags, code, parameters, metrics, model.
    equal
        Facts that are equal, by name.
    closeness, obstacle
        The similarity, or the reason why there is none.
    words
        Tokens that each promotes and demotes; None if they are not known.
    note
        The versions whose runs' records are missing, as a sentence; empty if there are none.
    """

    rows: tuple[VersionRow, VersionRow]
    differences: tuple[tuple[str, Difference], ...]
    equal: Mapping[str, str]
    closeness: Closeness | None
    obstacle: str
    words: tuple[Words | None, Words | None]
    note: str


def compare_two(tx: Transaction, viewer: Person, settings: Settings, one: int, other: int) -> TwoVersions | None:
    """Compare two versions by id; None if the viewer may not see both."""
    if not sees_versions(tx, viewer, one, other):
        return None
    found = by_ids(tx, [one, other])
    rows = found[one], found[other]
    stored = [embeddings.of_version(tx, viewer, row.id) for row in rows]
    common = _common_recipe(stored)
    closeness = _closeness(tx, viewer, settings, common, rows) if common else None
    records = training_records.records(tx, [one, other])
    sides = [_facts(row, records, rows, each) for row, each in zip(rows, stored, strict=True)]
    recipes = [common or (each[0].recipe if each else None) for each in stored]
    words = [_words(tx, recipe, row) for recipe, row in zip(recipes, rows, strict=True)]
    return TwoVersions(
        rows=rows,
        differences=tuple(differing(*sides)),
        equal=shared(*sides),
        closeness=closeness,
        obstacle="" if closeness else obstacle(rows, stored),
        words=(words[0], words[1]),
        note=_note(rows, records),
    )


def _common_recipe(stored: Sequence[Sequence[StoredEmbedding]]) -> RecipeRow | None:
    """Return the latest recipe under which both versions can be compared."""
    one, other = ({each.recipe.id: each.recipe for each in side if not each.is_weak} for side in stored)
    return next((recipe for recipe_id, recipe in one.items() if recipe_id in other), None)


def _closeness(
    tx: Transaction, viewer: Person, settings: Settings, recipe: RecipeRow, rows: Sequence[VersionRow]
) -> Closeness | None:
    one, other = rows
    compared = compare(tx, viewer, recipe, one.id, other.id)
    if compared is None:  # a delta of zero has no direction
        return None
    calibration = stored_calibration(tx, recipe.id, settings.registry, thresholds=settings.thresholds)
    same = one.weights_digest is not None and one.weights_digest == other.weights_digest
    return Closeness(recipe, compared, meaning(compared, calibration, have_same_weights=same))


def _facts(
    row: VersionRow, records: Mapping[int, Record], rows: Sequence[VersionRow], stored: Sequence[StoredEmbedding]
) -> Facts:
    # Without both records only the settings that every version has are compared, or all would seem to differ.
    known = all(each.id in records for each in rows)
    settings = {name: str(value) for name, value in row.provenance.settings.items()}
    return {
        **training_facts(row, records[row.id] if known else {"parameters": settings}),
        "metrics": {name: f"{value:g}" for name, value in row.provenance.metrics.items()},
        "model": {name: value for name, value in _model_facts(row, stored).items() if value},
    }


def _model_facts(row: VersionRow, stored: Sequence[StoredEmbedding]) -> dict[str, str]:
    latest, size = stored[0] if stored else None, row.provenance.weights_bytes
    return {
        "aliases": ", ".join(f"@{alias}" for alias in row.registered.aliases),
        "base": latest.recipe.base_name if latest else "",
        "base's weights": latest.recipe.base_digest[:_DIGITS_OF_DIGEST] if latest else "",
        "method": latest.recipe.probe_set if latest else "",
        "registered": f"{row.registered_at:%Y-%m-%d %H:%M} UTC",
        "size": "" if size is None else f"{size:,} bytes",
        "state": row.state,
        "strength": f"{latest.strength:.3f}" if latest else "",
        "weights": (row.weights_digest or "")[:_DIGITS_OF_DIGEST],
    }


def _words(tx: Transaction, recipe: RecipeRow | None, row: VersionRow) -> Words | None:
    return promoted_tokens.of_versions(tx, recipe.id, [row.id]).get(row.id) if recipe else None


def _note(rows: Sequence[VersionRow], records: Mapping[int, Record]) -> str:
    missing = list(dict.fromkeys(row.label for row in rows if row.id not in records))
    if not missing:
        return ""
    return f"What the run logged is not known for {' and '.join(missing)}: only some settings and metrics are compared."
