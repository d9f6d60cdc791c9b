"""How registered models drift: what the findings rest on, and the page and `deltadex drift` both show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deltadex.analysis.calibration import Calibration
from deltadex.analysis.drift import Space, Step, follow
from deltadex.comparing import calibration_for_arrivals, calibration_of
from deltadex.domain import ModelVersionRef, VersionRow
from deltadex.governance import rules
from deltadex.settings import ThresholdSettings
from deltadex.store import embeddings, findings, model_history
from deltadex.store.database import Transaction
from deltadex.store.embeddings import RecipeRow
from deltadex.store.model_history import History

#: The alias whose version the others are compared with, where nobody names another.
USUAL_ALIAS = "champion"


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
    clusters
        By recipe and version id: the stored cluster that a version is in.
    """

    name: str
    versions: tuple[VersionRow, ...]
    steps: tuple[Step, ...]
    recipes: Mapping[int, RecipeRow]
    too_weak: tuple[VersionRow, ...] = ()
    alias: str | None = None
    clusters: Mapping[tuple[int, int], str] | None = None

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

    def towards(self, place: int) -> tuple[str | None, str | None]:
        """Return the clusters that step `place` left and came to; None where a version is in none."""
        step = self.steps[place]
        if step.previous is None or self.clusters is None:
            return None, None
        before, after = (
            self.versions[place if step.reference is None else step.reference].id,
            self.versions[place + 1].id,
        )
        recipe_id = step.previous.recipe_id
        return self.clusters.get((recipe_id, before)), self.clusters.get((recipe_id, after))


def model_drifts(
    tx: Transaction,
    registry: str,
    *,
    thresholds: ThresholdSettings,
    name: str | None = None,
    alias: str = USUAL_ALIAS,
) -> list[ModelDrift]:
    """Return the drift of each registered model with two or more versions to place, the largest step first.

    What single probes say is told only where one model is asked for by name.
    """
    recipes = {recipe.id: recipe for recipe in embeddings.recipes(tx, registry)}
    spaces = {
        recipe.id: _space(recipe, calibration_of(tx, recipe.id, registry, thresholds=thresholds))
        for recipe in recipes.values()
    }
    found = [
        _drift(tx, history, recipes, spaces, thresholds=thresholds, alias=alias)
        for history in model_history.histories(tx, registry, name=name)
        if len(history.versions) > 1
    ]
    return sorted(found, key=lambda drifted: (-drifted.largest_step, drifted.name))


def judge_model(tx: Transaction, ref: ModelVersionRef, *, thresholds: ThresholdSettings) -> list[int]:
    """Make the drift findings of a registered model what they are today; return the versions that they concern.

    A version may arrive between two others, so the whole line is followed again.
    """
    recipes = {recipe.id: recipe for recipe in embeddings.recipes(tx, ref.registry, name=ref.name)}
    ids: list[int] = []
    steps: list[Step] = []
    for history in model_history.histories(tx, ref.registry, name=ref.name):
        used = {each: recipes[each] for point in history.points for each in point}
        spaces = {
            each: _space(recipe, calibration_for_arrivals(tx, each, ref.registry, thresholds=thresholds))
            for each, recipe in used.items()
        }
        ids = [row.id for row in history.versions]
        steps = follow(history.points, spaces, limit=thresholds.drift_distance)
    concerned: list[int] = []
    for recipe_id in recipes:
        found = rules.judge_drift(ids, steps, recipe_id=recipe_id, thresholds=thresholds)
        findings.replace_drift(tx, found, ref=ref, recipe_id=recipe_id)
        concerned += [each for one in found for each in (one.version_id, one.other_id) if each is not None]
    return concerned


def _drift(
    tx: Transaction,
    history: History,
    recipes: Mapping[int, RecipeRow],
    spaces: Mapping[int, Space],
    *,
    thresholds: ThresholdSettings,
    alias: str,
) -> ModelDrift:
    pointed_at = [place for place, row in enumerate(history.versions) if alias in row.registered.aliases]
    target = pointed_at[0] if pointed_at else None
    return ModelDrift(
        name=history.name,
        versions=history.versions,
        steps=tuple(follow(history.points, spaces, limit=thresholds.drift_distance, alias=target)),
        recipes=recipes,
        too_weak=history.too_weak,
        alias=alias if pointed_at else None,
        clusters=model_history.clusters_of(tx, [row.id for row in history.versions]),
    )


def _space(recipe: RecipeRow, calibration: Calibration) -> Space:
    return Space(recipe.base_digest, recipe.noise_floor, calibration.reseed_distance)
