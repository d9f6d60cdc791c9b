"""How registered models drift: what the findings rest on, and the page and `deltadex drift` both show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from operator import itemgetter

from deltadex.analysis.calibration import Calibration
from deltadex.analysis.drift import Space, Step, follow
from deltadex.analysis.similarity import unit_vectors
from deltadex.analysis.words import moved
from deltadex.comparing import calibration_for_arrivals, calibration_on_record
from deltadex.domain import FloatArray, ModelVersionRef, VersionRow, Word, Words
from deltadex.governance import rules
from deltadex.settings import ThresholdSettings
from deltadex.store import clusters, embeddings, findings, model_history, words
from deltadex.store.clusters import ClusterRow
from deltadex.store.database import Transaction
from deltadex.store.embeddings import RecipeRow
from deltadex.store.model_history import History

#: The alias whose version the others are compared with, where nobody names another.
USUAL_ALIAS = "champion"


#: By a recipe's id, its clusters by theirs, each with the mean of its unit vectors.
Centres = Callable[[int], Mapping[int, tuple[ClusterRow, FloatArray]]]
#: Words that a finding keeps in each direction.
_WORDS = 10


@dataclass(frozen=True)
class Nearest:
    """The domain cluster that a version is in, or else the one that it is most similar to.

    Attributes
    ----------
    similarity
        Mean cosine similarity with the cluster's other members.
    """

    cluster: ClusterRow
    similarity: float
    is_member: bool

    def __str__(self) -> str:
        return self.cluster.name if self.is_member else f"nearest {self.cluster.name} ({self.similarity:.2f})"


@dataclass(frozen=True)
class Towards:
    """What a drift moved towards.

    Attributes
    ----------
    recipe_id
        Under which.
    left, came_to
        The nearest cluster before and after, in the latest run; None where there are no clusters.
    words
        What rose and fell, as in `deltadex.analysis.words.moved`; None where a version's were not asked for.
    """

    recipe_id: int
    left: Nearest | None
    came_to: Nearest | None
    words: Words | None

    @property
    def clusters(self) -> str:
        """From which cluster to which, in words; empty where there are none."""
        return f"from {self.left} to {self.came_to}" if self.left and self.came_to else ""

    @property
    def evidence(self) -> dict[str, str]:
        """What a finding keeps of it: clusters live on and are renamed, and not everybody may see each name."""
        said = self.words or Words()
        kept = {"promotes_more": _listed(said.promoted), "demotes_more": _listed(said.demoted)}
        return {name: value for name, value in kept.items() if value}


@dataclass(frozen=True, eq=False)
class ModelDrift:
    """How one registered model moved; `steps[i]` leads to `versions[i + 1]`.

    Attributes
    ----------
    versions
        Oldest first, without those in `too_weak`.
    recipes
        By id: those that the versions were compared under.
    alias
        The alias whose version they were compared with; None where no version has it.
    towards
        By the place of its step: what each drift moved towards, from the version that it is a change from.
    """

    name: str
    versions: tuple[VersionRow, ...]
    steps: tuple[Step, ...]
    recipes: Mapping[int, RecipeRow]
    too_weak: tuple[VersionRow, ...] = ()
    alias: str | None = None
    towards: Mapping[int, Towards] = field(default_factory=dict)

    @property
    def base_name(self) -> str:
        """The base of the last move; empty where versions share no recipe."""
        used = [step.previous.recipe_id for step in self.steps if step.previous]
        return self.recipes[used[-1]].base_name if used else ""

    @property
    def largest_step(self) -> float:
        """The largest cosine distance between consecutive versions; 0 where none can be compared."""
        return max((step.previous.distance for step in self.steps if step.previous), default=0.0)

    @property
    def changes(self) -> int:
        """How many change points there are."""
        return sum(step.change is not None for step in self.steps)


def model_drift(
    tx: Transaction, registry: str, name: str, *, thresholds: ThresholdSettings, alias: str = USUAL_ALIAS
) -> ModelDrift | None:
    """Return the drift of a registered model; None where it has no two versions to place.

    `deltadex.store.model_history.lines` says which ones have moved farthest.
    """
    recipes = {recipe.id: recipe for recipe in embeddings.recipes(tx, registry, name=name)}
    spaces = {
        recipe.id: _space(recipe, calibration_on_record(tx, recipe.id, registry, thresholds=thresholds))
        for recipe in recipes.values()
    }
    history = model_history.history(tx, registry, name)
    if len(history.versions) < 2:
        return None
    return _drift(tx, history, recipes, spaces, _centres(tx, registry), thresholds=thresholds, alias=alias)


def judge_model(tx: Transaction, ref: ModelVersionRef, *, thresholds: ThresholdSettings) -> list[int]:
    """Make the drift findings of a registered model what they are today; return the versions that they concern.

    A version may arrive between two others, so the whole line is followed again.
    """
    recipes = {recipe.id: recipe for recipe in embeddings.recipes(tx, ref.registry, name=ref.name)}
    history = model_history.history(tx, ref.registry, ref.name)
    spaces = {
        each: _space(recipe, calibration_for_arrivals(tx, each, ref.registry, thresholds=thresholds))
        for each, recipe in recipes.items()
    }
    ids = [row.id for row in history.versions]
    steps = follow(history.points, spaces, limit=thresholds.drift_distance)
    towards = {ids[place + 1]: one for place, one in _towards(tx, history, steps, _centres(tx, ref.registry))}
    concerned: list[int] = []
    for recipe_id in recipes:
        found = rules.judge_drift(ids, steps, recipe_id=recipe_id, thresholds=thresholds)
        found = [replace(one, evidence={**one.evidence, **towards[one.version_id].evidence}) for one in found]
        findings.replace_drift(tx, found, ref=ref, recipe_id=recipe_id)
        concerned += [each for one in found for each in (one.version_id, one.other_id) if each is not None]
    return concerned


def _drift(
    tx: Transaction,
    history: History,
    recipes: Mapping[int, RecipeRow],
    spaces: Mapping[int, Space],
    centres: Centres,
    *,
    thresholds: ThresholdSettings,
    alias: str,
) -> ModelDrift:
    pointed_at = [place for place, row in enumerate(history.versions) if alias in row.registered.aliases]
    target = pointed_at[0] if pointed_at else None
    steps = follow(history.points, spaces, limit=thresholds.drift_distance, alias=target)
    return ModelDrift(
        name=history.name,
        versions=history.versions,
        steps=tuple(steps),
        recipes=recipes,
        too_weak=history.too_weak,
        alias=alias if pointed_at else None,
        towards=dict(_towards(tx, history, steps, centres)),
    )


def _space(recipe: RecipeRow, calibration: Calibration) -> Space:
    return Space(recipe.base_digest, recipe.noise_floor, calibration.reseed_distance)


def _towards(
    tx: Transaction, history: History, steps: Sequence[Step], centres: Centres
) -> Iterator[tuple[int, Towards]]:
    """Yield each change point's step, by place, with what it moved towards."""
    for place, step in enumerate(steps):
        if step.change and step.previous and step.reference is not None:
            recipe_id, both = step.previous.recipe_id, (step.reference, place + 1)
            before, after = (history.versions[each].id for each in both)
            vectors = {history.versions[each].id: history.points[each][recipe_id].vector for each in both}
            nearest = _nearest(tx, recipe_id, vectors, centres(recipe_id))
            said = words.of_versions(tx, recipe_id, [before, after])
            difference = moved(said[before], said[after]) if len(said) == len(both) else None
            yield place, Towards(recipe_id, nearest.get(before), nearest.get(after), difference)


def _centres(tx: Transaction, registry: str) -> Centres:
    """Return what reads a recipe's clusters, once for each recipe."""

    @cache
    def read(recipe_id: int) -> dict[int, tuple[ClusterRow, FloatArray]]:
        rows = {row.id: row for row in clusters.listing(tx, recipe_id, registry)}
        return {each: (rows[each], centre) for each, centre in clusters.centres(tx, recipe_id, registry).items()}

    return read


def _nearest(
    tx: Transaction,
    recipe_id: int,
    vectors: Mapping[int, FloatArray],
    centres: Mapping[int, tuple[ClusterRow, FloatArray]],
) -> dict[int, Nearest]:
    """Return the nearest cluster of each of these versions, by id; nothing where there are no clusters."""
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


def _listed(said: Sequence[Word]) -> str:
    return ", ".join(word.text for word in said[:_WORDS])
