"""Searches by examples: request and result. The training is in `deltadex.find.train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltadex.access import Person, Right
from deltadex.clusters import queries as clusters
from deltadex.clusters import reads as visible_clusters
from deltadex.clusters.queries import ClusterRow
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.engine.examples import Example
from deltadex.errors import AccessDenied, BaseNotFound
from deltadex.find import queries as task_searches
from deltadex.find.queries import SEARCHES, TaskDelta
from deltadex.search import reads as search
from deltadex.search.filters import Conditions
from deltadex.search.neighbors import Neighbor
from deltadex.search.query_vector import Questions
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import VersionRow

#: Most searches of one person at a time; each occupies a worker for seconds to minutes.
_MOST_UNFINISHED = 3
_WORDS = 5
#: Measured by `python -m benchmarks.few_shot`: see docs/analyses.md.
CAVEAT = "Candidates to try, not a verdict: in half of our measured searches the nearest was for another domain."


@dataclass(frozen=True)
class TaskModel:
    """A version that may be for the task.

    Attributes
    ----------
    similarity
        Cosine similarity of its delta to that of the examples.
    cluster
        Its domain; None if it is in none, or came after the latest run.
    words
        Tokens that it promotes most.
    """

    version: VersionRow
    similarity: float
    cluster: ClusterRow | None
    words: tuple[str, ...]


@dataclass(frozen=True)
class TaskModels:
    """Result of a search.

    Attributes
    ----------
    models
        Candidates, closest first.
    recipe
        Recipe of the comparison; None if the registry has no version under it.
    note
        Reason why there are no candidates; empty if there are some.
    """

    models: tuple[TaskModel, ...]
    recipe: RecipeRow | None
    is_exact: bool = True
    note: str = ""


def bases(tx: Transaction, settings: Settings) -> list[str]:
    """Return the bases that a search can use: by descending number of versions, then those without any."""
    embedded = [recipe.base_name for recipe in embeddings.recipes(tx, settings.registry)]
    return list(dict.fromkeys([*embedded, *sorted(settings.bases)]))


def require_base(tx: Transaction, settings: Settings, base_name: str) -> None:
    """Raise BaseNotFound, with the known bases as a hint, if this is none of them."""
    known = bases(tx, settings)
    if base_name not in known:
        hint = f"Known bases: {', '.join(known)}." if known else "No base is known yet: set DELTADEX_BASES."
        raise BaseNotFound(f"No base is called {base_name}", hint=hint)


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
    require_base(tx, settings, base_name)
    if SEARCHES.unfinished(tx, settings.registry, by=person.name) >= _MOST_UNFINISHED:
        raise AccessDenied(f"{_MOST_UNFINISHED} of your searches are under way", hint="Wait for one of them to end.")
    return task_searches.ask(tx, settings.registry, base_name, examples, by=person.name)


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
    recipe = next((one for one in embeddings.recipes(tx, settings.registry) if one.digest == delta.recipe_digest), None)
    if recipe is None:
        return TaskModels(
            (), None, note="The registry has no version that was embedded against this base and by this recipe."
        )
    if delta.weakness:
        return TaskModels((), recipe, note=delta.weakness)
    questions = Questions(recipe.id, settings.registry, delta.vector[None])
    [found] = search.answer(tx, viewer, questions, k=k, conditions=conditions)
    described = _described(tx, viewer, settings.registry, recipe.id, found.neighbors)
    return TaskModels(described, recipe, found.is_exact, note="" if described else "No version meets the conditions.")


def _described(
    tx: Transaction, viewer: Person, registry: str, recipe_id: int, found: Sequence[Neighbor]
) -> tuple[TaskModel, ...]:
    known = {cluster.id: cluster for cluster in visible_clusters.listing(tx, viewer, recipe_id, registry)}
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
