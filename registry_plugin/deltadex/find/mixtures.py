"""Mixtures of domains, models and versions as queries, such as "0.5 legal + 0.5 code"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deltadex.access import HIDDEN, Person, Right
from deltadex.clusters import queries as clusters
from deltadex.clusters import reads as visible_clusters
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.errors import DeltadexError
from deltadex.search.query_vector import Questions, direction_of
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FloatArray, VersionRow
from deltadex.vectors import unit_vectors
from deltadex.versions import reads as versions

#: More parts than this are no question that a person asks.
MOST_PARTS = 8
_WEIGHT = re.compile(r"\d+(?:\.\d*)?|\.\d+")
_NUMBER = re.compile(rf"({_WEIGHT.pattern})(?:\s*[*×]\s*|\s+)(?=\S)")
_EXAMPLE = "Write domains, models or NAME/VERSION with weights, such as: 0.5 legal + 0.5 code."


@dataclass(frozen=True)
class Part:
    """One part of a mixture: the name of a domain or model, or `NAME/VERSION`, and its weight."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class MixedQuery:
    """A mixture in one recipe.

    Attributes
    ----------
    questions
        Its vector: the weighted sum of unit vectors.
    meant
        What each part was taken for, such as `domain legal` or `sql-writer/3`.
    """

    recipe: RecipeRow
    questions: Questions
    meant: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Direction:
    """A unit vector, what it is of, and the version that it belongs to if it is one's."""

    vector: FloatArray
    meant: str
    version_id: int | None = None


def parse(text: str) -> tuple[Part, ...]:
    """Read a mixture: parts joined by ` + `, each with an optional weight before its name.

    Raises
    ------
    DeltadexError
        A part has no name, a weight is 0, or there are too many parts.
    """
    parts = tuple(_part(one.strip()) for one in re.split(r"(?:^|(?<=\s))\+(?=\s|$)", text.strip()))
    if len(parts) > MOST_PARTS:
        raise DeltadexError(f"The mixture has {len(parts)} parts; the limit is {MOST_PARTS}", hint=_EXAMPLE)
    return parts


def _part(text: str) -> Part:
    found = _NUMBER.match(text)
    name, weight = (text[found.end() :], float(found[1])) if found else (text, 1.0)
    if not name or _WEIGHT.fullmatch(name) or not 0 < weight < 1e6:
        raise DeltadexError(f"{text!r} is not a weight and a name", hint=_EXAMPLE)
    return Part(name, weight)


def mixed_query(
    tx: Transaction, viewer: Person, settings: Settings, parts: Sequence[Part], *, base: str | None = None
) -> MixedQuery:
    """Return a mixture as a query, in the largest recipe that has all of its parts.

    A name is looked for among the domains, then among the versions, then among the registered models, of which the
    newest embedded version is taken. Names that the viewer may not see are unknown.

    Parameters
    ----------
    base
        Only recipes of this base model.

    Raises
    ------
    DeltadexError
        No recipe has all of the parts.
    """
    viewer.require(Right.LOOK)
    recipes = [one for one in embeddings.recipes(tx, viewer, settings.registry) if base in (None, one.base_name)]
    unknown, domains = [part.name for part in parts], list[str]()
    for recipe in recipes:
        centres = _domains(tx, viewer, settings.registry, recipe)
        found = [_direction(tx, viewer, settings.registry, recipe, centres, part.name) for part in parts]
        domains += [one.meant.removeprefix("domain ") for one in centres.values()]
        known = [one for one in found if one is not None]
        if len(known) == len(parts):
            return _sum(settings.registry, recipe, parts, known)
        missing = [part.name for part, one in zip(parts, found, strict=True) if one is None]
        unknown = min(unknown, missing, key=len)
    hint = f"Domains: {', '.join(dict.fromkeys(domains))}." if domains else "There are no domains yet."
    raise DeltadexError(
        f"No domain, model or NAME/VERSION with an embedding is called {' or '.join(map(repr, unknown))}",
        hint=f"{hint} {_EXAMPLE}",
    )


def _sum(registry: str, recipe: RecipeRow, parts: Sequence[Part], found: Sequence[_Direction]) -> MixedQuery:
    vector = np.sum([part.weight * one.vector for part, one in zip(parts, found, strict=True)], axis=0)
    if not vector.any():
        raise DeltadexError("The parts of the mixture cancel each other out", hint="Change their weights.")
    own = frozenset(one.version_id for one in found if one.version_id is not None)
    questions = Questions(recipe.id, registry, vector[None].astype(np.float32), own)
    return MixedQuery(recipe, questions, tuple(one.meant for one in found))


def _domains(tx: Transaction, viewer: Person, registry: str, recipe: RecipeRow) -> dict[str, _Direction]:
    """Return the mean directions of the visible domains by their name in small letters."""
    centres = clusters.centres(tx, recipe.id, registry)
    return {
        row.name.casefold(): _Direction(unit_vectors(centres[row.id][None])[0], f"domain {row.name}")
        for row in visible_clusters.listing(tx, viewer, recipe.id, registry)
        if row.name != HIDDEN and row.id in centres and centres[row.id].any()
    }


def _direction(
    tx: Transaction,
    viewer: Person,
    registry: str,
    recipe: RecipeRow,
    domains: Mapping[str, _Direction],
    name: str,
) -> _Direction | None:
    if domain := domains.get(name.casefold()):
        return domain
    model, _, number = name.rpartition("/")
    rows = versions.find(tx, viewer, registry, model, int(number)) if model and _is_version(number) else []
    rows += versions.find(tx, viewer, registry, name)
    return next((one for row in rows if (one := _of_version(tx, recipe, row))), None)


def _is_version(number: str) -> bool:
    return number.isascii() and number.isdecimal() and len(number) < 10


def _of_version(tx: Transaction, recipe: RecipeRow, row: VersionRow) -> _Direction | None:
    vector = direction_of(tx, row.id, recipe_id=recipe.id)
    return None if vector is None else _Direction(unit_vectors(vector[None])[0], row.label, row.id)
