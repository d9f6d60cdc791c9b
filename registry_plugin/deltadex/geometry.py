"""The geometry of a registry's embeddings: measured when its clusters are found, kept, and read by page and command.

A registered model counts once, by its newest version, and weights that several of them share count once: what is
compared with chance must not be the same thing twice.
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

from deltadex.analysis.domains import DOMAIN_TAG
from deltadex.analysis.geometry.atoms import Contrast, Parallelogram, parallelograms
from deltadex.analysis.geometry.chance import SEED, SIGNIFICANT, Measured, Refusal
from deltadex.analysis.geometry.galaxy import CLUSTERED_NATS, Galaxy, galaxy
from deltadex.analysis.geometry.lobes import Item, Lobes, lobes
from deltadex.domain import VersionRow
from deltadex.settings import Settings
from deltadex.store import cluster_runs, clusters, embeddings, geometries
from deltadex.store.database import Database, Transaction
from deltadex.store.embeddings import EmbeddingTable, RecipeRow
from deltadex.store.geometries import GeometryRow

#: Of more models a drawn part is measured: it says the same, and the null is simulated in seconds.
MOST_MODELS = 300
#: Domains or models from which on a difference is asked about at all; whether they are enough is said there.
_FEWEST_GROUPS = 3
#: So that the correction for their number doesn't hide the few that matter: those in most domains, whatever they say.
_MOST_STEPS, _MOST_TAG_CONTRASTS, _MOST_VALUES = 5, 10, 20
_OWN_TAGS = ("deltadex.", "mlflow.")
_ALIAS = "alias"
#: Raised when what is measured, or how it is stored, changes otherwise than by a threshold: all are measured anew.
_REVISION = 1

_One = TypeVar("_One")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Geometry:
    """The geometry of one recipe's embeddings; it is stored as it stands.

    Attributes
    ----------
    models
        How many different ones there are.
    drawn
        How many of them were measured.
    """

    models: int
    drawn: int
    galaxy: Galaxy | Refusal
    lobes: tuple[Lobes | Refusal, ...]
    parallelograms: tuple[Parallelogram | Refusal, ...]

    @property
    def answers(self) -> tuple[Galaxy | Lobes | Parallelogram | Refusal, ...]:
        """Everything that was asked, the largest scale first."""
        return (self.galaxy, *self.lobes, *self.parallelograms)

    @property
    def numbers(self) -> tuple[tuple[str, Measured], ...]:
        """Every number that has a null, with its name."""
        shape = self.galaxy
        of_shape = (
            ()
            if isinstance(shape, Refusal)
            else (
                ("effective number of directions", shape.effective),
                ("slope of the spectrum", shape.slope),
                ("clustering entropy, nats", shape.entropy),
            )
        )
        agreements = ((f"agreement by {one.name}", one.agreement) for one in self.lobes if isinstance(one, Lobes))
        shared = (
            named
            for one in self.parallelograms
            if isinstance(one, Parallelogram)
            for named in ((f"{one.name}: score", one.score), (f"{one.name}: alignment", one.alignment))
        )
        return tuple((name, one) for name, one in (*of_shape, *agreements, *shared) if isinstance(one, Measured))


@dataclass(frozen=True)
class Measurement:
    """The latest geometry of a recipe, as it is stored.

    Attributes
    ----------
    method
        Seed and thresholds.
    versions
        How many embeddings it rests on.
    found_at
        When they were read.
    """

    recipe: RecipeRow
    method: Mapping[str, Any]
    versions: int
    found_at: datetime
    geometry: Geometry

    @property
    def basis(self) -> str:
        """What it rests on, in words."""
        noun = "version" if self.versions == 1 else "versions"
        return f"of {self.found_at:%Y-%m-%d %H:%M} UTC, {self.versions:,} {noun}"


_STORED = TypeAdapter(Geometry)


def latest(tx: Transaction, registry: str, recipe: RecipeRow) -> Measurement | None:
    """Return what was measured last; None where nothing was, or by another method. Nothing is computed."""
    row = geometries.latest(tx, recipe.id, registry)
    if row is None or row.method != _method():
        return None
    return Measurement(recipe, row.method, row.versions, row.found_at, _STORED.validate_python(row.found))


def measure(database: Database, registry: str, recipe: RecipeRow) -> None:
    """Measure a recipe's geometry anew and store it with what it was measured by."""
    with database.transaction() as tx:
        read_at = cluster_runs.now(tx)
        table = embeddings.table(tx, recipe.id, registry=registry)
    found = _STORED.dump_python(geometry_of(table), mode="json")
    row = GeometryRow(_method(), len(table.rows), found, read_at)
    database.run(lambda tx: geometries.replace(tx, recipe.id, registry, row))
    log.info("measured geometry recipe=%s versions=%d", recipe.digest[:12], row.versions)


def measure_where_due(database: Database, settings: Settings) -> int:
    """Measure again where clusters were found since, or by another method, and return how many recipes it were."""
    registry = settings.registry
    with database.transaction() as tx:
        due = [recipe for recipe in embeddings.recipes(tx, registry) if _is_due(tx, registry, recipe)]
    for recipe in due:
        measure(database, registry, recipe)
    return len(due)


def _is_due(tx: Transaction, registry: str, recipe: RecipeRow) -> bool:
    stored, run = latest(tx, registry, recipe), clusters.latest_run(tx, recipe.id, registry)
    return stored is None or (run is not None and run.found_at > stored.found_at)


def _method() -> dict[str, Any]:
    return {
        "revision": _REVISION,
        "seed": SEED,
        "significant": SIGNIFICANT,
        "clustered_nats": CLUSTERED_NATS,
        "most_models": MOST_MODELS,
    }


def geometry_of(table: EmbeddingTable) -> Geometry:
    """Return the geometry of one recipe's embeddings at all three scales."""
    order = sorted(range(len(table.rows)), key=lambda place: table.rows[place].registered.ref)
    newest = {table.rows[place].registered.ref.name: place for place in order}
    models = _different(table, newest.values())
    drawn = _drawn(models)
    contrasts = [*_steps(table, order), *_tag_contrasts(table, order)]
    return Geometry(
        models=len(models),
        drawn=len(drawn),
        galaxy=galaxy(table.vectors[drawn]),
        lobes=lobes(table.vectors[drawn], [_items(table.rows[place]) for place in drawn]),
        parallelograms=parallelograms(table.vectors, contrasts),
    )


def _steps(table: EmbeddingTable, order: Sequence[int]) -> Iterator[Contrast]:
    """Yield what changed from each model's first version to its second, from its second to its third, and so on."""
    models: dict[str, list[int]] = defaultdict(list)
    for place in order:
        models[table.rows[place].registered.ref.name].append(place)
    for step in range(_MOST_STEPS):
        pairs = {name: (places[step], places[step + 1]) for name, places in models.items() if len(places) > step + 1}
        if step and len(pairs) < _FEWEST_GROUPS:
            return
        weights = {name: (_weights(table, older), _weights(table, newer)) for name, (older, newer) in pairs.items()}
        unique = {both: name for name, both in weights.items() if both[0] != both[1]}
        names = _drawn(sorted(unique.values()))
        rows = tuple(place for name in names for place in pairs[name])
        groups = tuple(name for name in names for _ in range(2))
        yield Contrast(f"version {step + 1} → {step + 2}", rows, groups, (False, True) * len(names), "models")


def _tag_contrasts(table: EmbeddingTable, order: Sequence[int]) -> list[Contrast]:
    """Return the pairs of a tag's values that occur in most domains; at least the closest to being enough."""
    keys = {key for row in table.rows for key in _tags(row)} - {DOMAIN_TAG}
    found = [each for key in sorted(keys) for each in _value_pairs(table, order, key)]
    found.sort(key=lambda each: (-len(set(each.groups)), each.name))
    enough = [each for each in found if len(set(each.groups)) >= _FEWEST_GROUPS]
    return enough[:_MOST_TAG_CONTRASTS] or found[:1]


def _value_pairs(table: EmbeddingTable, order: Sequence[int], key: str) -> Iterator[Contrast]:
    newest = {(row.registered.ref.name, row.registered.tags[key]): place for place, row in _tagged(table, order, key)}
    domains: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place in _different(table, newest.values()):
        tags = table.rows[place].registered.tags
        domains[tags[key]][tags[DOMAIN_TAG]].append(place)
    values = sorted(sorted(domains), key=lambda value: -len(domains[value]))[:_MOST_VALUES]
    for one, other in combinations(sorted(values), 2):
        both = domains[one].keys() & domains[other].keys()
        if both:
            places = _drawn(sorted(place for value in (one, other) for name in both for place in domains[value][name]))
            carried = [table.rows[place].registered.tags for place in places]
            groups, changed = (each[DOMAIN_TAG] for each in carried), (each[key] == other for each in carried)
            yield Contrast(f"tag {key}: {one} → {other}", tuple(places), tuple(groups), tuple(changed), "domains")


def _tagged(table: EmbeddingTable, order: Sequence[int], key: str) -> Iterator[tuple[int, VersionRow]]:
    for place in order:
        row = table.rows[place]
        if {key, DOMAIN_TAG} <= row.registered.tags.keys():
            yield place, row


def _tags(row: VersionRow) -> dict[str, str]:
    return {key: value for key, value in row.registered.tags.items() if not key.startswith(_OWN_TAGS)}


def _items(row: VersionRow) -> set[Item]:
    tags = ((f"tag {key}", value) for key, value in _tags(row).items())
    return {*tags, *((_ALIAS, alias) for alias in row.registered.aliases)}


def _weights(table: EmbeddingTable, place: int) -> str:
    row = table.rows[place]
    return row.weights_digest or row.label


def _different(table: EmbeddingTable, places: Iterable[int]) -> list[int]:
    """Return the places whose weights no earlier one has."""
    first: dict[str, int] = {}
    for place in places:
        first.setdefault(_weights(table, place), place)
    return list(first.values())


def _drawn(every: Sequence[_One]) -> list[_One]:
    """Return at most `MOST_MODELS` of them, always the same ones, in their order."""
    chosen = np.random.default_rng(SEED).permutation(len(every))[:MOST_MODELS]
    return [every[number] for number in sorted(chosen)]
