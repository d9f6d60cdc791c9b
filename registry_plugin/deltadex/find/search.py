"""Searches by examples or mixtures. Results are in `deltadex.find.answers`, the training in `deltadex.find.train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from deltadex.access import HIDDEN, Person, Right
from deltadex.clusters import queries as clusters
from deltadex.clusters import reads as visible_clusters
from deltadex.clusters.queries import ClusterRow, Place
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.engine.examples import Example
from deltadex.errors import AccessDenied, BaseNotFound
from deltadex.find import domains
from deltadex.find import queries as task_searches
from deltadex.find.answers import Certainty, Closeness, TaskDomain, TaskModel, TaskModels
from deltadex.find.domains import DomainScore
from deltadex.find.mixtures import MixedQuery
from deltadex.find.queries import SEARCHES, SearchRow, TaskDelta
from deltadex.search import reads as search
from deltadex.search.filters import Conditions
from deltadex.search.neighbors import Found, Neighbor
from deltadex.search.query_vector import Questions
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.vectors import unit_vectors

#: Most searches of one person at a time; each occupies a worker for seconds to minutes.
_MOST_UNFINISHED = 3
_WORDS = 5
#: Domains that are shown beside the models.
_DOMAINS = 3


def bases(tx: Transaction, viewer: Person, settings: Settings) -> list[str]:
    """Return the bases that a search can use: by descending number of versions, then those without any.

    Bases that are hidden from the viewer are left out.
    """
    configured = [one for one in sorted(settings.bases) if viewer.shown_address(one) == one]
    return list(dict.fromkeys([*_embedded_bases(tx, viewer, settings), *configured]))


def _embedded_bases(tx: Transaction, viewer: Person, settings: Settings) -> list[str]:
    names = dict.fromkeys(recipe.base_name for recipe in embeddings.recipes(tx, viewer, settings.registry))
    return [name for name in names if name != HIDDEN]


def known_base(tx: Transaction, viewer: Person, settings: Settings, base_name: str | None) -> str:
    """Return a base that a search can use; for None the only one that has finetunes.

    Raises
    ------
    BaseNotFound
        There is none of this name, or none was named and there are several; the hint has the known ones.
    """
    known = bases(tx, viewer, settings)
    possible = [base_name] if base_name else _embedded_bases(tx, viewer, settings) or known
    if len(possible) == 1 and possible[0] in known:
        return possible[0]
    hint = f"Known bases: {', '.join(known)}." if known else "No base is known yet: set DELTADEX_BASES."
    message = "Name the base of the finetunes" if base_name is None else f"No base is called {base_name}"
    raise BaseNotFound(message, hint=hint)


def ask(tx: Transaction, person: Person, settings: Settings, base_name: str, examples: Sequence[Example]) -> int:
    """Store a search and return its id; the watcher starts its flow within seconds.

    Raises
    ------
    AccessDenied
        The person has too many searches under way.
    BaseNotFound
        The base is not known.
    """
    person.require(Right.LOOK)
    known_base(tx, person, settings, base_name)
    if SEARCHES.unfinished(tx, settings.registry, by=person.name) >= _MOST_UNFINISHED:
        raise AccessDenied(f"{_MOST_UNFINISHED} of your searches are under way", hint="Wait for one of them to end.")
    return task_searches.ask(tx, settings.registry, base_name, examples, by=person.name)


def get(tx: Transaction, viewer: Person, settings: Settings, search_id: int) -> SearchRow:
    """Return a search; without the name of a base that is hidden from the viewer, and without what may name it.

    Raises
    ------
    StoreError
        There is none with this id.
    """
    viewer.require(Right.LOOK)
    row = task_searches.get(tx, settings.registry, search_id)
    base_name = viewer.shown_address(row.base_name)
    if base_name == row.base_name:
        return row
    return replace(row, base_name=base_name, reason=row.reason and HIDDEN, hint="")


def models_for(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    delta: TaskDelta,
    *,
    k: int = 10,
    conditions: Conditions | None = None,
) -> TaskModels:
    """Return the versions whose deltas are closest to that of the examples; hidden ones are masked."""
    recipes = embeddings.recipes(tx, viewer, settings.registry)
    recipe = next((one for one in recipes if one.digest == delta.recipe_digest), None)
    if recipe is None:
        return TaskModels(
            (), None, note="The registry has no version that was embedded against this base and by this recipe."
        )
    if delta.weakness:
        return TaskModels((), recipe, note=delta.weakness)
    questions = Questions(recipe.id, settings.registry, np.stack([delta.vector, *delta.halves]))
    found, *of_halves = search.answer(tx, viewer, questions, k=k, conditions=conditions)
    count = len(clusters.listing(tx, recipe.id, settings.registry))
    known = domains.directions(tx, recipe.id, settings.registry, count=count)
    scores = [known.nearest(one) for one in questions.vectors] if known else []
    if scores:
        found = _led_by_domain(tx, viewer, questions, found, scores[0].domain_id, conditions)
    shown = _shown_clusters(tx, viewer, questions)
    answer = _answer(tx, viewer, recipe, questions, found, shown, conditions)
    return replace(
        answer,
        closeness=_closeness(found, scores, shown, settings),
        certainty=_certainty(tx, recipe.id, [found, *of_halves], scores, delta),
    )


def _led_by_domain(
    tx: Transaction,
    viewer: Person,
    questions: Questions,
    found: Found,
    cluster_id: int,
    conditions: Conditions | None,
) -> Found:
    """Put the closest version of the nearest domain first; versions of other domains may be closer by cosine."""
    wanted = conditions or Conditions()
    if wanted.clusters is not None and cluster_id not in wanted.clusters:
        return found
    first = replace(questions, vectors=questions.vectors[:1])
    [of_domain] = search.answer(tx, viewer, first, k=1, conditions=replace(wanted, clusters=frozenset({cluster_id})))
    leading = {one.version.id for one in of_domain.neighbors}
    others = [one for one in found.neighbors if one.version.id not in leading]
    return replace(found, neighbors=(*of_domain.neighbors, *others)[: max(1, len(found.neighbors))])


def _closeness(
    found: Found, scores: Sequence[DomainScore], shown: Mapping[int, ClusterRow], settings: Settings
) -> Closeness | None:
    if not found.neighbors:
        return None
    if not scores:
        return Closeness(found.neighbors[0].similarity, settings.find.least_similarity)
    return Closeness(scores[0].score, settings.find.least_domain_score, shown.get(scores[0].domain_id))


def models_like(
    tx: Transaction,
    viewer: Person,
    query: MixedQuery,
    *,
    k: int = 10,
    conditions: Conditions | None = None,
) -> TaskModels:
    """Return the versions that are closest to a mixture, without those that it is made of; hidden ones are masked."""
    [found] = search.answer(tx, viewer, query.questions, k=k, conditions=conditions)
    shown = _shown_clusters(tx, viewer, query.questions)
    return _answer(tx, viewer, query.recipe, query.questions, found, shown, conditions)


def _shown_clusters(tx: Transaction, viewer: Person, questions: Questions) -> dict[int, ClusterRow]:
    return {one.id: one for one in visible_clusters.listing(tx, viewer, questions.recipe_id, questions.registry)}


def _answer(
    tx: Transaction,
    viewer: Person,
    recipe: RecipeRow,
    questions: Questions,
    found: Found,
    shown: Mapping[int, ClusterRow],
    conditions: Conditions | None,
) -> TaskModels:
    models = _described(tx, viewer, recipe.id, found.neighbors, shown)
    nearest = () if conditions else _domains(tx, recipe.id, questions, shown)
    note = "" if models else "No version meets the conditions."
    return TaskModels(models, recipe, found.is_exact, note=note, domains=nearest)


def _domains(
    tx: Transaction, recipe_id: int, questions: Questions, known: Mapping[int, ClusterRow]
) -> tuple[TaskDomain, ...]:
    centres = {each: one for each, one in clusters.centres(tx, recipe_id, questions.registry).items() if one.any()}
    if not centres:
        return ()
    similarities = unit_vectors(np.stack([*centres.values()])) @ unit_vectors(questions.vectors[:1])[0]
    found = [TaskDomain(known[each], float(one)) for each, one in zip(centres, similarities, strict=True)]
    return tuple(sorted(found, key=lambda one: -one.similarity)[:_DOMAINS])


def _certainty(
    tx: Transaction, recipe_id: int, answers: Sequence[Found], scores: Sequence[DomainScore], delta: TaskDelta
) -> Certainty | None:
    nearest = [one.neighbors[0] for one in answers if one.neighbors]
    if not delta.halves or len(nearest) < len(answers):
        return None
    places = clusters.places_of(tx, recipe_id, [one.version.id for one in nearest])
    by_version = [_kind(one.version, places.get(one.version.id)) for one in nearest]
    kinds: list[int | str] = [*(one.domain_id for one in scores)] or by_version
    similarities = [one.similarity for one in nearest[1:]]
    return Certainty(
        kinds[1:].count(kinds[0]), len(delta.halves), delta.halves_planned, min(similarities), max(similarities)
    )


def _kind(version: VersionRow, place: Place | None) -> int | str:
    """Return what two nearest versions must share to agree: the domain, or the model of a version without one."""
    return version.registered.ref.name if place is None or place.cluster_id is None else place.cluster_id


def _described(
    tx: Transaction, viewer: Person, recipe_id: int, found: Sequence[Neighbor], known: Mapping[int, ClusterRow]
) -> tuple[TaskModel, ...]:
    ids = [one.version.id for one in found]
    places, words = clusters.places_of(tx, recipe_id, ids), promoted_tokens.of_versions(tx, recipe_id, ids)
    models = []
    for one in found:
        place, own_words = places.get(one.version.id), words.get(one.version.id)
        cluster = known.get(place.cluster_id) if place and place.cluster_id is not None else None
        promoted = tuple(word.text for word in own_words.promoted[:_WORDS]) if own_words else ()
        is_seen = viewer.sees(one.version.registered.ref.name)
        models.append(
            TaskModel(one.version, one.similarity, cluster, promoted)
            if is_seen
            else TaskModel(one.version, one.similarity, None, ())
        )
    return tuple(models)
