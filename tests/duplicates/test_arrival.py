"""Findings on arrival equal those of a recomputation, in any order of arrival."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deltadex.checkpoints.merge_check import Imprint
from deltadex.duplicates import overview as redundancy
from deltadex.duplicates.group import Redundancy
from deltadex.duplicates.overview import RecipeRedundancy, redundancies
from deltadex.embeddings import imprints
from deltadex.embeddings import queries as embeddings
from deltadex.findings import queries as findings
from deltadex.findings.thresholds import calibration_for_arrivals, calibration_of
from deltadex.ingest.recompute_duplicates import recompute_near_duplicates
from deltadex.ingest.record import find
from deltadex.ingest.round import recompute_where_due
from deltadex.setting_groups import DatabaseSettings, ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind, Provenance, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.stored import ADMIN, REGISTRY, discovered, embedded, embedding
from tests.synthetic import families

KINDS = (FindingKind.EXACT_DUPLICATE, FindingKind.NEAR_DUPLICATE, FindingKind.SAME_TASK)
THRESHOLDS = ThresholdSettings(near_duplicate_similarity=0.95, same_task_similarity=0.9, calibrate=False)
SETTINGS = Settings(registry=REGISTRY, thresholds=THRESHOLDS)
Found = set[tuple[FindingKind, str, str]]


def arrive(
    tx: Transaction, label: str, vector: np.ndarray, *, created_ms: int, weights: str, imprint: Imprint | None = None
) -> None:
    name, _, version = label.partition("/")
    version_id = embedded(tx, name, vector, version=int(version), created_ms=created_ms, weights=weights)
    [recipe] = embeddings.recipes(tx, REGISTRY)
    if imprint is not None:
        imprints.save(tx, version_id, recipe.id, embedding(vector, weights=weights), imprint)
    find(tx, versions.get(tx, version_id), recipe.id, thresholds=THRESHOLDS)


def found(tx: Transaction) -> Found:
    rows = findings.listing(tx, REGISTRY, kinds=KINDS)
    return {(row.finding.kind, row.version.label, row.other.label) for row in rows if row.other}


def company() -> list[tuple[str, np.ndarray, int, str]]:
    rows = families([8, 6, 4], dimension=24, spread=0.25)
    weights = [f"weights-{row % 15}" for row in range(len(rows))]
    rows = [rows[row % 15] for row in range(len(rows))]
    return [(f"model-{row % 13}/{row + 1}", vector, 100 - 3 * row, weights[row]) for row, vector in enumerate(rows)]


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_arrival_changes_no_finding(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    each = company()
    with database.transaction() as tx:
        for row in np.random.default_rng(seed).permutation(len(each)):
            label, vector, created_ms, weights = each[row]
            arrive(tx, label, vector, created_ms=created_ms, weights=weights)
        [recipe] = embeddings.recipes(tx, REGISTRY)
    settings = Settings(
        data_dir=tmp_path, registry=REGISTRY, database=DatabaseSettings(url=database.url), thresholds=THRESHOLDS
    )
    # Repeated tasks are judged in the round, over all versions at once.
    recompute_where_due(database, settings)
    with database.transaction() as tx:
        arrived = found(tx)
    kinds = [kind for kind, _, _ in arrived]
    assert all(kinds.count(kind) >= 2 for kind in KINDS)
    replaced = recompute_near_duplicates(settings, database, recipe, lambda *_: None)
    assert (replaced.changed, replaced.removed) == (0, 0)
    with database.transaction() as tx:
        assert found(tx) == arrived == _expected(each)
        compared, known = redundancies(tx, ADMIN, SETTINGS), _from_findings(tx, monkeypatch)
    # Only what supersedes earlier versions of its model is no finding.
    assert _labels(known, Redundancy.EXACT) == _labels(compared, Redundancy.EXACT)
    grouped = {
        label for kind in (Redundancy.EXACT, Redundancy.NEAR) for group in _labels(known, kind) for label in group
    }
    assert grouped == {label for kind, *pair in arrived if kind is not FindingKind.SAME_TASK for label in pair}
    assert not _labels(known, Redundancy.SUPERSEDED)


def _labels(found: list[RecipeRedundancy], kind: Redundancy) -> list[list[str]]:
    return [[row.label for row in group.versions] for one in found for group in one.of_kind(kind)]


def _from_findings(tx: Transaction, monkeypatch: pytest.MonkeyPatch) -> list[RecipeRedundancy]:
    monkeypatch.setattr(redundancy, "COMPARED_AT_MOST", 0)
    return redundancies(tx, ADMIN, SETTINGS)


def _expected(each: list[tuple[str, np.ndarray, int, str]]) -> Found:
    """The rules once more, in the plainest way."""
    result: Found = set()
    ordered = sorted(each, key=lambda one: one[2])
    labels = [label for label, _, _, _ in ordered]
    norms = [float(np.linalg.norm(vector)) for _, vector, _, _ in ordered]
    for row, (label, vector, _, weights) in enumerate(ordered):
        closest = None
        for other, (other_label, other_vector, _, other_weights) in enumerate(ordered[:row]):
            is_other_model = label.split("/")[0] != other_label.split("/")[0]
            similarity = float(vector @ other_vector) / norms[row] / norms[other]
            is_near = similarity >= 0.95 and min(norms[row], norms[other]) / max(norms[row], norms[other]) >= 0.8
            kind = FindingKind.EXACT_DUPLICATE if weights == other_weights else FindingKind.NEAR_DUPLICATE
            if weights == other_weights or (is_near and is_other_model):
                result.add((kind, labels[row], labels[other]))
            is_duplicate = weights == other_weights or is_near
            if is_other_model and similarity >= 0.9 and (closest is None or similarity >= closest[0]):
                closest = (similarity, other, is_duplicate)
        if closest and not closest[2]:
            result.add((FindingKind.SAME_TASK, labels[row], labels[closest[1]]))
    return result


def settled(database: Database) -> Found:
    """Run the round, which judges repeated tasks, and return what is found then."""
    recompute_where_due(database, Settings(registry=REGISTRY, thresholds=THRESHOLDS))
    with database.transaction() as tx:
        return found(tx)


def at(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0.0])


def again(tx: Transaction, name: str, vector: np.ndarray, *, base: str = "base", is_weak: bool = False) -> None:
    """Embed the first version of a model again, with other weights."""
    [version] = versions.find(tx, REGISTRY, name, 1)
    value = embedding(vector, weights=f"{name} again", base=base)
    recipe_id = embeddings.save(tx, version.id, value, base_name=base, artifact_uri="", is_weak=is_weak)
    weak = [Finding(FindingKind.TOO_WEAK, version.id)] if is_weak else []
    find(tx, version, recipe_id, too_weak=weak, thresholds=THRESHOLDS)


def test_a_repeated_task_follows_what_arrives_changes_and_goes(database: Database) -> None:
    same_task = FindingKind.SAME_TASK
    with database.transaction() as tx:
        arrive(tx, "last/1", at(0), created_ms=3, weights="last")
        arrive(tx, "first/1", at(25), created_ms=1, weights="first")
    assert settled(database) == {(same_task, "last/1", "first/1")}
    with database.transaction() as tx:
        arrive(tx, "second/1", at(-20), created_ms=2, weights="second")
    assert settled(database) == {(same_task, "last/1", "second/1")}
    with database.transaction() as tx:
        [second] = versions.find(tx, REGISTRY, "second", 1)
        transitions.mark_ended(tx, second.id, state=State.DELETED, reason="")
    assert settled(database) == {(same_task, "last/1", "first/1")}
    with database.transaction() as tx:
        again(tx, "last", at(90))
    assert settled(database) == set()


def test_a_round_leaves_alone_what_stays_the_same(database: Database) -> None:
    with database.transaction() as tx:
        arrive(tx, "first/1", at(25), created_ms=1, weights="first")
        arrive(tx, "second/1", at(0), created_ms=2, weights="second")
    settled(database)
    with database.transaction() as tx:
        before = tx.execute("select id, found_at, measured_at from findings").fetchall()
        arrive(tx, "far/1", at(90), created_ms=3, weights="far")
    settled(database)
    with database.transaction() as tx:
        assert tx.execute("select id, found_at, measured_at from findings").fetchall() == before != []


def test_a_version_that_moved_to_another_recipe_repeats_no_task_of_the_earlier_one(database: Database) -> None:
    with database.transaction() as tx:
        arrive(tx, "first/1", at(25), created_ms=1, weights="first")
        arrive(tx, "second/1", at(0), created_ms=2, weights="second")
    assert len(settled(database)) == 1
    with database.transaction() as tx:
        again(tx, "second", at(0), base="another")
    assert settled(database) == set()


def test_a_version_that_became_too_weak_repeats_no_task(database: Database) -> None:
    with database.transaction() as tx:
        arrive(tx, "first/1", at(25), created_ms=1, weights="first")
        arrive(tx, "second/1", at(0), created_ms=2, weights="second")
    assert len(settled(database)) == 1
    with database.transaction() as tx:
        for name in ("first", "second"):
            again(tx, name, at(0), is_weak=True)
    assert settled(database) == set()


def test_a_recipe_is_calibrated_from_its_reseeds_and_never_from_another_registry(database: Database) -> None:
    rows = families([3] * 5, dimension=16, spread=0.05)
    with database.transaction() as tx:
        for number, row in enumerate(rows):
            for registry in (REGISTRY, "other"):
                version_id = discovered(tx, f"model-{number}", registry=registry)
                provenance = Provenance(1, f"data {number // 3}" if registry == REGISTRY else None, {})
                value = embedding(row, weights=f"{registry}-{number}")
                embeddings.save(
                    tx, version_id, value, base_name="base", artifact_uri="", is_weak=False, provenance=provenance
                )
        [recipe] = embeddings.recipes(tx, REGISTRY)
        ours, theirs = (
            calibration_of(tx, recipe.id, registry, thresholds=ThresholdSettings()) for registry in (REGISTRY, "other")
        )
    assert ours.near_similarity.is_known
    assert ours.near_similarity.pairs == 15
    assert not theirs.near_similarity.is_known
    assert theirs.near_similarity.pairs == 0


def test_arrivals_go_by_what_was_found_lately_under_the_same_settings(database: Database) -> None:
    with database.transaction() as tx:
        embedded(tx, "one", np.array([1.0, 0.0]))
        [recipe] = embeddings.recipes(tx, REGISTRY)
        first = calibration_for_arrivals(tx, recipe.id, REGISTRY, thresholds=ThresholdSettings())
        tx.execute("update calibrations set seconds = 3600, found = jsonb_set(found, '{same_task,value}', '0.123')")
        kept = calibration_for_arrivals(tx, recipe.id, REGISTRY, thresholds=ThresholdSettings())
        other = ThresholdSettings(near_duplicate_similarity=0.9)
        changed = calibration_for_arrivals(tx, recipe.id, REGISTRY, thresholds=other)
        tx.execute("update calibrations set seconds = 0")
        anew = calibration_for_arrivals(tx, recipe.id, REGISTRY, thresholds=ThresholdSettings())
    assert kept.same_task.value == 0.123
    assert (kept.near_similarity, kept.reseed_distance) == (first.near_similarity, first.reseed_distance)
    assert changed.near_similarity.value == 0.9
    assert anew == first


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_a_merge_and_its_adapter_are_exact_duplicates_in_whatever_order_they_come(
    database: Database, tmp_path: Path, order: tuple[int, ...]
) -> None:
    random = np.random.default_rng(0)
    base, update, vector = (random.normal(size=600).astype(np.float32) for _ in range(3))
    arrivals = [
        ("adapter/1", Imprint(base, update)),
        ("served/1", Imprint(base + update, None)),
        ("trained-on/1", Imprint(base + np.float32(1.01) * update, None)),
    ]
    with database.transaction() as tx:
        for place in order:
            label, imprint = arrivals[place]
            arrive(tx, label, vector, created_ms=place, weights=label, imprint=imprint)
        arrived = found(tx)
        [recipe] = embeddings.recipes(tx, REGISTRY)
        [merge] = findings.listing(tx, REGISTRY, kinds=[FindingKind.EXACT_DUPLICATE])
        [exact] = redundancies(tx, ADMIN, SETTINGS)[0].of_kind(Redundancy.EXACT)
    assert arrived == {
        (FindingKind.EXACT_DUPLICATE, "served/1", "adapter/1"),
        (FindingKind.NEAR_DUPLICATE, "trained-on/1", "adapter/1"),
        (FindingKind.NEAR_DUPLICATE, "trained-on/1", "served/1"),
    }
    assert "its merge in float32: 100.00% of 600" in str(merge.finding.evidence["reason"])
    assert [row.label for row in exact.versions] == ["adapter/1", "served/1"]
    settings = Settings(
        data_dir=tmp_path, registry=REGISTRY, database=DatabaseSettings(url=database.url), thresholds=THRESHOLDS
    )
    replaced = recompute_near_duplicates(settings, database, recipe, lambda *_: None)
    assert (replaced.changed, replaced.removed) == (0, 0)
    with database.transaction() as tx:
        assert found(tx) == arrived
