"""Measuring, storing and reading the geometry of a registry's embeddings.

It is measured after each clustering and read by the dashboard and the command line. Weights shared by several models
count once: copies would look like structure beyond chance.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from deltadex.clusters import queries as clusters
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import EmbeddingTable, RecipeRow
from deltadex.geometry import queries as geometries
from deltadex.geometry.atoms import Contrast, Parallelogram, parallelograms
from deltadex.geometry.chance import SEED, SIGNIFICANT, Refusal
from deltadex.geometry.queries import GeometryRow
from deltadex.settings import Settings
from deltadex.store import clock
from deltadex.store.database import Database, Transaction
from deltadex.types import DOMAIN_TAG, VersionRow

#: More models are sampled: the result is the same, and the null is simulated in seconds.
MOST_MODELS = 300
#: Fewest domains or models with which a contrast is measured; `parallelograms` refuses those that need more.
_FEWEST_GROUPS = 3
#: Contrasts are limited to those in most groups, so that the correction for their number does not hide real ones.
_MOST_STEPS, _MOST_TAG_CONTRASTS, _MOST_VALUES = 5, 10, 20
#: Increased when the measurement or its stored form changes other than by a threshold: all recipes are measured again.
_REVISION = 3

_Entry = TypeVar("_Entry")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Geometry:
    """The differences that were measured under one recipe, in the form that is stored."""

    differences: tuple[Parallelogram | Refusal, ...]


@dataclass(frozen=True)
class Measurement:
    """The latest geometry of a recipe, as it is stored.

    Attributes
    ----------
    method
        Seed and thresholds.
    versions
        Number of embeddings that were read.
    found_at
        Time at which they were read.
    """

    recipe: RecipeRow
    method: Mapping[str, Any]
    versions: int
    found_at: datetime
    geometry: Geometry

    @property
    def basis(self) -> str:
        """Time and number of versions of the measurement, for display."""
        noun = "version" if self.versions == 1 else "versions"
        return f"of {self.found_at:%Y-%m-%d %H:%M} UTC, {self.versions:,} {noun}"


_STORED = TypeAdapter(Geometry)


def latest(tx: Transaction, registry: str, recipe: RecipeRow) -> Measurement | None:
    """Return the stored measurement; None if there is none or it was made by another method. Computes nothing."""
    row = geometries.latest(tx, recipe.id, registry)
    if row is None or row.method != _method():
        return None
    return Measurement(recipe, row.method, row.versions, row.found_at, _STORED.validate_python(row.found))


def measure(database: Database, registry: str, recipe: RecipeRow) -> None:
    """Measure a recipe's geometry and store it with its method."""
    with database.transaction() as tx:
        read_at = clock.now(tx)
        table = embeddings.table(tx, recipe.id, registry=registry)
    found = _STORED.dump_python(geometry_of(table), mode="json")
    row = GeometryRow(_method(), len(table.rows), found, read_at)
    database.run(lambda tx: geometries.replace(tx, recipe.id, registry, row))
    log.info("measured geometry recipe=%s versions=%d", recipe.digest[:12], row.versions)


def measure_where_due(database: Database, settings: Settings) -> int:
    """Measure recipes with a newer clustering or another method; return their number."""
    registry = settings.registry
    with database.transaction() as tx:
        due = [recipe for recipe in embeddings.recipes(tx, registry) if is_due(tx, registry, recipe)]
    for recipe in due:
        measure(database, registry, recipe)
    return len(due)


def is_due(tx: Transaction, registry: str, recipe: RecipeRow) -> bool:
    """Return True if there is no measurement or a newer clustering."""
    stored, run = latest(tx, registry, recipe), clusters.latest_run(tx, recipe.id, registry)
    return stored is None or (run is not None and run.found_at > stored.found_at)


def _method() -> dict[str, Any]:
    return {
        "revision": _REVISION,
        "seed": SEED,
        "significant": SIGNIFICANT,
        "most_models": MOST_MODELS,
    }


def geometry_of(table: EmbeddingTable) -> Geometry:
    """Return the geometry of one recipe's embeddings."""
    order = sorted(range(len(table.rows)), key=lambda index: table.rows[index].registered.ref)
    return Geometry(parallelograms(table.vectors, [*_steps(table, order), *_tag_contrasts(table, order)]))


def _steps(table: EmbeddingTable, order: Sequence[int]) -> Iterator[Contrast]:
    """Yield the contrast between all models' first and second versions, second and third versions, and so on."""
    models: dict[str, list[int]] = defaultdict(list)
    for index in order:
        models[table.rows[index].registered.ref.name].append(index)
    for step in range(_MOST_STEPS):
        pairs = {
            name: (indices[step], indices[step + 1]) for name, indices in models.items() if len(indices) > step + 1
        }
        if step and len(pairs) < _FEWEST_GROUPS:
            return
        weights = {name: (_weights(table, older), _weights(table, newer)) for name, (older, newer) in pairs.items()}
        unique = {both: name for name, both in weights.items() if both[0] != both[1]}
        names = _sample(sorted(unique.values()))
        rows = tuple(index for name in names for index in pairs[name])
        groups = tuple(name for name in names for _ in range(2))
        yield Contrast(f"version {step + 1} → {step + 2}", rows, groups, (False, True) * len(names), "models")


def _tag_contrasts(table: EmbeddingTable, order: Sequence[int]) -> list[Contrast]:
    """Return the pairs of tag values that occur in most domains; if none occurs in enough, the closest one."""
    keys = {key for row in table.rows for key in row.registered.own_tags} - {DOMAIN_TAG}
    found = [each for key in sorted(keys) for each in _value_pairs(table, order, key)]
    found.sort(key=lambda each: (-len(set(each.groups)), each.name))
    enough = [each for each in found if len(set(each.groups)) >= _FEWEST_GROUPS]
    return enough[:_MOST_TAG_CONTRASTS] or found[:1]


def _value_pairs(table: EmbeddingTable, order: Sequence[int], key: str) -> Iterator[Contrast]:
    newest = {(row.registered.ref.name, row.registered.tags[key]): index for index, row in _tagged(table, order, key)}
    domains: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index in _different(table, newest.values()):
        tags = table.rows[index].registered.tags
        domains[tags[key]][tags[DOMAIN_TAG]].append(index)
    values = sorted(sorted(domains), key=lambda value: -len(domains[value]))[:_MOST_VALUES]
    for one, other in combinations(sorted(values), 2):
        both = domains[one].keys() & domains[other].keys()
        if both:
            indices = _sample(
                sorted(index for value in (one, other) for name in both for index in domains[value][name])
            )
            carried = [table.rows[index].registered.tags for index in indices]
            groups, changed = (each[DOMAIN_TAG] for each in carried), (each[key] == other for each in carried)
            yield Contrast(f"tag {key}: {one} → {other}", tuple(indices), tuple(groups), tuple(changed), "domains")


def _tagged(table: EmbeddingTable, order: Sequence[int], key: str) -> Iterator[tuple[int, VersionRow]]:
    for index in order:
        row = table.rows[index]
        if {key, DOMAIN_TAG} <= row.registered.tags.keys():
            yield index, row


def _weights(table: EmbeddingTable, number: int) -> str:
    row = table.rows[number]
    return row.weights_digest or row.label


def _different(table: EmbeddingTable, rows: Iterable[int]) -> list[int]:
    """Return the rows whose weights do not occur in an earlier row."""
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(_weights(table, row), row)
    return list(first.values())


def _sample(entries: Sequence[_Entry]) -> list[_Entry]:
    """Return at most `MOST_MODELS` entries, always the same ones, in their order."""
    chosen = np.random.default_rng(SEED).permutation(len(entries))[:MOST_MODELS]
    return [entries[number] for number in sorted(chosen)]
