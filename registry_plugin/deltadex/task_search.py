"""Which of a registry's models are for a task that somebody has a few examples of: asked, followed, and answered.

What the examples do to a base is `few_shot`'s to compute, which takes torch; all of this takes none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from deltadex.domain import VersionRow
from deltadex.errors import AccessDenied, BaseNotFound
from deltadex.examples import Example
from deltadex.governance.access import Person, Right
from deltadex.services import Services
from deltadex.settings import Settings
from deltadex.store import clusters, embeddings, search, task_searches, words
from deltadex.store.clusters import ClusterRow
from deltadex.store.conditions import Conditions
from deltadex.store.database import Transaction
from deltadex.store.embeddings import RecipeRow
from deltadex.store.questions import Questions
from deltadex.store.task_searches import TaskDelta

#: Of one person at the same time; each takes a worker some seconds to minutes.
_MOST_UNFINISHED = 3
#: How many deadlines a search may take: one to train, one to embed, and one to wait for a worker and for files.
_DEADLINES = 3
_WORDS = 5
#: Measured by `python -m benchmarks.few_shot`: see docs/analyses.md.
CAVEAT = "Candidates to try, not a verdict: in half of our measured searches the nearest was for another domain."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskModel:
    """A version that may be for the task.

    Attributes
    ----------
    similarity
        Cosine similarity of its delta with that of the examples.
    cluster
        The domain that it is in; None where it is in none, or came after the latest run.
    words
        The tokens that it promotes most.
    """

    version: VersionRow
    similarity: float
    cluster: ClusterRow | None
    words: tuple[str, ...]


@dataclass(frozen=True)
class TaskModels:
    """The answer to a search, closest first.

    Attributes
    ----------
    recipe
        What was compared; None where the registry has no version under it.
    note
        Why there are none, or what to think of them; empty where there is nothing to say.
    """

    models: tuple[TaskModel, ...]
    recipe: RecipeRow | None
    is_exact: bool = True
    note: str = ""


def bases(tx: Transaction, settings: Settings) -> list[str]:
    """Return the bases that a search can be about: those with the most versions first, then those that are only set."""
    embedded = [recipe.base_name for recipe in embeddings.recipes(tx, settings.registry)]
    return list(dict.fromkeys([*embedded, *sorted(settings.bases)]))


def require_base(tx: Transaction, settings: Settings, base_name: str) -> None:
    """Raise BaseNotFound, with the bases that are known, where this is none of them."""
    known = bases(tx, settings)
    if base_name not in known:
        hint = f"Known are: {', '.join(known)}." if known else "None is known yet: set DELTADEX_BASES."
        raise BaseNotFound(f"No base is called {base_name}", hint=hint)


def ask(tx: Transaction, person: Person, settings: Settings, base_name: str, examples: Sequence[Example]) -> int:
    """Store a search that a flow is to do, and return its id; the watcher starts the flow within seconds.

    Raises
    ------
    AccessDenied
        The person has as many searches under way as one may have.
    BaseNotFound
    """
    person.require(Right.LOOK)
    require_base(tx, settings, base_name)
    if task_searches.unfinished(tx, settings.registry, by=person.name) >= _MOST_UNFINISHED:
        raise AccessDenied(f"{_MOST_UNFINISHED} of your searches are under way", hint="Wait for one of them to end.")
    return task_searches.ask(tx, settings.registry, base_name, examples, by=person.name)


def submit_asked(services: Services) -> int:
    """Start a flow run for each search that waits for one, end those whose run has died; return how many were started.

    Killed between the two steps, the next round gets the same run again by its idempotency key.
    """
    seconds = _DEADLINES * services.settings.embedding.deadline_seconds
    registry = services.registry.name
    services.database.run(lambda tx: task_searches.fail_silent(tx, registry, after_seconds=seconds))
    asked = services.database.run(lambda tx: task_searches.waiting(tx, registry))
    for row in asked:
        # Ids begin anew in another store, which may use the same Prefect.
        run_id = services.scheduler.submit_search(row.id, key=f"{registry}:{row.id}:{row.asked_at.timestamp()}")
        services.database.run(partial(task_searches.mark_queued, search_id=row.id, flow_run_id=run_id))
        log.info("queued search=%d run=%s", row.id, run_id)
    return len(asked)


def models_for(
    tx: Transaction,
    person: Person,
    settings: Settings,
    delta: TaskDelta,
    *,
    k: int = 10,
    conditions: Conditions | None = None,
) -> TaskModels:
    """Return the versions that change the base as the examples do, as this person may see them."""
    recipe = next((one for one in embeddings.recipes(tx, settings.registry) if one.digest == delta.recipe_digest), None)
    if recipe is None:
        return TaskModels(
            (), None, note="The registry has no version that was embedded against this base and by this recipe."
        )
    if delta.weakness:
        return TaskModels((), recipe, note=delta.weakness)
    questions = Questions(recipe.id, settings.registry, delta.vector[None])
    [found] = search.answer(tx, questions, k=k, conditions=conditions)
    described = _described(tx, person, settings.registry, recipe.id, found)
    return TaskModels(described, recipe, found.is_exact, note="" if described else "No version meets the conditions.")


def _described(
    tx: Transaction, person: Person, registry: str, recipe_id: int, found: search.Found
) -> tuple[TaskModel, ...]:
    known = {cluster.id: cluster for cluster in clusters.listing(tx, recipe_id, registry)}
    ids = [one.version.id for one in found.neighbors]
    places, said = clusters.places_of(tx, recipe_id, ids), words.of_versions(tx, recipe_id, ids)
    models = []
    for one in found.neighbors:
        place, heard = places.get(one.version.id), said.get(one.version.id)
        cluster = known.get(place.cluster_id) if place and place.cluster_id is not None else None
        promoted = tuple(word.text for word in heard.promoted[:_WORDS]) if heard else ()
        is_seen = person.sees(one.version.registered.ref.name)
        models.append(
            TaskModel(one.version, one.similarity, cluster, promoted)
            if is_seen
            else TaskModel(person.view(one.version), one.similarity, None, ())
        )
    return tuple(models)
