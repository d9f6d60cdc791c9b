"""Drift of registered models, for findings, the drift page and `deltadex drift`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cache
from operator import itemgetter

from deltadex.access import HIDDEN, Person
from deltadex.clusters import queries as clusters
from deltadex.clusters import reads as visible_clusters
from deltadex.clusters.queries import ClusterRow
from deltadex.drift import queries as model_history
from deltadex.drift.causes import differences, in_words
from deltadex.drift.line import Change, Space, Step, follow, unresolved
from deltadex.drift.queries import History, Line
from deltadex.drift.rules import judge_drift
from deltadex.drift.token_changes import moved
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings import reads as visible_embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.findings.calibration import Calibration
from deltadex.findings.thresholds import calibration_for_arrivals, stored_calibration
from deltadex.setting_groups import ThresholdSettings
from deltadex.store.database import Transaction
from deltadex.types import Finding, FloatArray, ModelVersionRef, VersionRow, Word, Words
from deltadex.vectors import unit_vectors
from deltadex.versions import record_queries as training_records
from deltadex.versions.differences import Difference

#: Default alias: versions are also compared with the version that has it.
DEFAULT_ALIAS = "champion"


#: Function from a recipe id to the recipe's clusters by id, each with the mean of its unit vectors.
Centres = Callable[[int], Mapping[int, tuple[ClusterRow, FloatArray]]]
#: Number of words in each direction that a finding stores.
_WORDS = 10


@dataclass(frozen=True)
class Nearest:
    """The cluster of a version, or the most similar cluster if it is in none.

    Attributes
    ----------
    similarity
        Mean cosine similarity to the cluster's other members.
    """

    cluster: ClusterRow
    similarity: float
    is_member: bool

    def __str__(self) -> str:
        return self.cluster.name if self.is_member else f"nearest {self.cluster.name} ({self.similarity:.2f})"


@dataclass(frozen=True)
class DriftDirection:
    """Clusters and words that a drift moved between.

    Attributes
    ----------
    recipe_id
        Recipe of the comparison.
    cluster_before, cluster_after
        Nearest cluster before and after, in the latest run; None if there are no clusters.
    words
        Result of `deltadex.drift.token_changes.moved`; None if a version has no words.
    differences
        What differs between the trainings of both versions.
    """

    recipe_id: int
    cluster_before: Nearest | None
    cluster_after: Nearest | None
    words: Words | None
    differences: tuple[Difference, ...] = ()

    @property
    def clusters(self) -> str:
        """`from … to …` with the names of both clusters; empty if there are none."""
        return (
            f"from {self.cluster_before} to {self.cluster_after}" if self.cluster_before and self.cluster_after else ""
        )


@dataclass(frozen=True, eq=False)
class ModelDrift:
    """Drift of one registered model; `steps[i]` leads to `versions[i + 1]`.

    Attributes
    ----------
    versions
        Oldest first, without those in `too_weak`.
    recipes
        Recipes of the comparisons, by id.
    alias
        Alias of the version that the others were also compared with; None if no version has it.
    directions
        Direction of each drift from its reference, by the index of its step.
    """

    name: str
    versions: tuple[VersionRow, ...]
    steps: tuple[Step, ...]
    recipes: Mapping[int, RecipeRow]
    too_weak: tuple[VersionRow, ...] = ()
    alias: str | None = None
    directions: Mapping[int, DriftDirection] = field(default_factory=dict)

    @property
    def base_name(self) -> str:
        """Base of the last move; empty if no consecutive versions share a recipe."""
        used = [step.previous.recipe_id for step in self.steps if step.previous]
        return self.recipes[used[-1]].base_name if used else ""

    @property
    def limit(self) -> float | None:
        """Cosine distance at which the last move would be a drift; None if no consecutive versions share a recipe."""
        return next((step.previous.limit for step in reversed(self.steps) if step.previous), None)

    @property
    def largest_step(self) -> float:
        """Largest cosine distance between consecutive versions; 0 if none can be compared."""
        return max((step.previous.distance for step in self.steps if step.previous), default=0.0)

    @property
    def changes(self) -> int:
        """Number of drifts that no later version has taken back."""
        return len(unresolved(self.steps, [bool(row.registered.aliases) for row in self.versions]))


def lines(tx: Transaction, viewer: Person, registry: str) -> list[Line]:
    """Return the models with at least two versions that can be placed, by descending largest step."""
    found = model_history.lines(tx, registry)
    shown = [
        replace(one, name=one.name if viewer.sees(one.name) else HIDDEN, base_name=viewer.shown_address(one.base_name))
        for one in found
    ]
    # Masked first: the order of equal steps would tell how hidden names are sorted.
    return sorted(shown, key=lambda one: (-one.largest_step, astuple(one)))


def model_drift(
    tx: Transaction,
    viewer: Person,
    registry: str,
    name: str,
    *,
    thresholds: ThresholdSettings,
    alias: str = DEFAULT_ALIAS,
) -> ModelDrift | None:
    """Return the drift of a registered model; None if it is hidden, or fewer than two of its versions can be placed."""
    if not viewer.sees(name):
        return None
    recipes = {recipe.id: recipe for recipe in visible_embeddings.recipes(tx, viewer, registry, name=name)}
    spaces = {
        recipe.id: _space(recipe, stored_calibration(tx, recipe.id, registry, thresholds=thresholds))
        for recipe in recipes.values()
    }
    history = model_history.history(tx, registry, name)
    if len(history.versions) < 2:
        return None
    centres = _centres(tx, registry, viewer)
    return _drift(tx, history, recipes, spaces, centres, alias=alias)


@dataclass(frozen=True, eq=False)
class FollowedModel:
    """Steps of a registered model, read to judge its drift.

    Attributes
    ----------
    recipe_ids
        Recipes of its embeddings.
    ids
        Its versions, oldest first, without those too weak to compare.
    steps
        `steps[i]` leads to `ids[i + 1]`.
    in_use
        Whether an alias points at each version.
    words, differences
        Of each drift as in `DriftDirection`, by the id of the later version.
    """

    ref: ModelVersionRef
    recipe_ids: tuple[int, ...]
    ids: tuple[int, ...]
    steps: tuple[Step, ...]
    in_use: tuple[bool, ...]
    words: Mapping[int, Words]
    differences: Mapping[int, tuple[Difference, ...]]


def read_model(
    tx: Transaction, ref: ModelVersionRef, *, thresholds: ThresholdSettings, copies: Collection[int] = ()
) -> FollowedModel:
    """Read the steps of a registered model: all of them, since a version may arrive between two others.

    Parameters
    ----------
    copies
        See `deltadex.drift.queries.history`.
    """
    recipes = {recipe.id: recipe for recipe in embeddings.recipes(tx, ref.registry, name=ref.name)}
    history = model_history.history(tx, ref.registry, ref.name, copies=copies)
    spaces = {
        each: _space(recipe, calibration_for_arrivals(tx, each, ref.registry, thresholds=thresholds))
        for each, recipe in recipes.items()
    }
    ids = tuple(row.id for row in history.versions)
    steps = tuple(follow(history.points, spaces))
    moved_words = {
        ids[place + 1]: _words_moved(tx, recipe_id, ids[before], ids[place + 1])
        for place, recipe_id, before in _change_points(steps)
    }
    differ = {ids[place + 1]: _differences(tx, history, steps, place) for place, *_ in _change_points(steps)}
    known_words = {each: words for each, words in moved_words.items() if words}
    in_use = tuple(bool(row.registered.aliases) for row in history.versions)
    return FollowedModel(ref, tuple(recipes), ids, steps, in_use, known_words, differ)


def judge_model(model: FollowedModel) -> dict[int, list[Finding]]:
    """Return the drift findings of a registered model, by recipe id."""
    return {
        recipe_id: [
            replace(
                one,
                evidence={
                    **_cause(model.differences.get(one.version_id, ())),
                    **one.evidence,
                    **_as_evidence(model.words.get(one.version_id, Words())),
                },
            )
            for one in judge_drift(model.ids, model.steps, model.in_use, recipe_id=recipe_id)
        ]
        for recipe_id in model.recipe_ids
    }


def _drift(
    tx: Transaction,
    history: History,
    recipes: Mapping[int, RecipeRow],
    spaces: Mapping[int, Space],
    centres: Centres,
    *,
    alias: str,
) -> ModelDrift:
    target = next((place for place, row in enumerate(history.versions) if alias in row.registered.aliases), None)
    steps = follow(history.points, spaces, alias=target)
    return ModelDrift(
        name=history.name,
        versions=history.versions,
        steps=tuple(steps),
        recipes=recipes,
        too_weak=history.too_weak,
        alias=None if target is None else alias,
        directions=dict(_directions(tx, history, steps, centres)),
    )


def _space(recipe: RecipeRow, calibration: Calibration) -> Space:
    return Space(
        recipe.base_digest,
        recipe.noise_floor,
        calibration.drift.value,
        calibration.reseed_distance,
        calibration.step_distance,
    )


def _directions(
    tx: Transaction, history: History, steps: Sequence[Step], centres: Centres
) -> Iterator[tuple[int, DriftDirection]]:
    """Yield the step index and the direction of each change point."""
    for place, recipe_id, reference in _change_points(steps):
        both = (reference, place + 1)
        before, after = (history.versions[each].id for each in both)
        vectors = {history.versions[each].id: history.points[each][recipe_id].vector for each in both}
        nearest = _nearest(tx, recipe_id, vectors, centres(recipe_id))
        words = _words_moved(tx, recipe_id, before, after)
        differ = _differences(tx, history, steps, place)
        yield place, DriftDirection(recipe_id, nearest.get(before), nearest.get(after), words, differ)


def _change_points(steps: Sequence[Step]) -> Iterator[tuple[int, int, int]]:
    """Yield the step index, the recipe id and the version index of the reference of each drift."""
    for place, step in enumerate(steps):
        if step.is_drift and step.previous and step.reference is not None:
            yield place, step.previous.recipe_id, step.reference


def _words_moved(tx: Transaction, recipe_id: int, before: int, after: int) -> Words | None:
    words = promoted_tokens.of_versions(tx, recipe_id, [before, after])
    return moved(words[before], words[after]) if before in words and after in words else None


def _differences(tx: Transaction, history: History, steps: Sequence[Step], place: int) -> tuple[Difference, ...]:
    """Return what differs between the trainings: a jump is one from the version before, a creep one from the start."""
    step = steps[place]
    before = place if step.change is Change.JUMP or step.reference is None else step.reference
    rows = history.versions[before], history.versions[place + 1]
    known = training_records.records(tx, [row.id for row in rows])
    # A version without a run, or embedded before records were kept, has none: only tags are compared then.
    one, other = (known[row.id] if len(known) == len(rows) else {} for row in rows)
    return differences(*rows, one, other)


def _centres(tx: Transaction, registry: str, viewer: Person) -> Centres:
    """Return a cached function that reads a recipe's clusters as a viewer may see them."""

    @cache
    def read(recipe_id: int) -> dict[int, tuple[ClusterRow, FloatArray]]:
        rows = {row.id: row for row in visible_clusters.listing(tx, viewer, recipe_id, registry)}
        return {each: (rows[each], centre) for each, centre in clusters.centres(tx, recipe_id, registry).items()}

    return read


def _nearest(
    tx: Transaction,
    recipe_id: int,
    vectors: Mapping[int, FloatArray],
    centres: Mapping[int, tuple[ClusterRow, FloatArray]],
) -> dict[int, Nearest]:
    """Return the nearest cluster of each version, by id; empty if there are no clusters."""
    if not centres:
        return {}
    found = {}
    for version_id, vector in vectors.items():
        unit = unit_vectors(vector[None])[0]
        closest, similarity = max(((row, float(centre @ unit)) for row, centre in centres.values()), key=itemgetter(1))
        found[version_id] = Nearest(closest, similarity, is_member=False)
    for version_id, place in clusters.places_of(tx, recipe_id, list(vectors)).items():
        if place.cluster_id is not None and place.strength is not None and place.cluster_id in centres:
            found[version_id] = Nearest(centres[place.cluster_id][0], place.strength, is_member=True)
    return found


def _cause(found: tuple[Difference, ...]) -> dict[str, str]:
    return {"differs": in_words(found)} if found else {}


def _as_evidence(words: Words) -> dict[str, str]:
    """Return the words that a finding stores. Cluster names are not stored: they change, and some are hidden."""
    evidence = {"promotes_more": _listed(words.promoted), "demotes_more": _listed(words.demoted)}
    return {name: value for name, value in evidence.items() if value}


def _listed(words: Sequence[Word]) -> str:
    return ", ".join(word.text for word in words[:_WORDS])
