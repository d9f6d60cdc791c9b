"""The geometry of a registry on a real store: counted models, and chosen contrasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from deltadex.clusters.runs import recluster
from deltadex.embeddings import queries as embeddings
from deltadex.geometry import measure as geometry
from deltadex.geometry.atoms import Parallelogram
from deltadex.geometry.chance import Refusal
from deltadex.geometry.measure import Geometry, Measurement, measure_where_due
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.store.revision import revision
from tests.stored import REGISTRY, embedded

DIMENSION = 48
SETTINGS = Settings(registry=REGISTRY)
DOMAINS = ("sql", "legal", "code", "support", "medical")


def fill(tx: Transaction, *, models: int = 20) -> None:
    """Store models of five domains with two versions each, a common step apart; every second one is by dpo."""
    random = np.random.default_rng(0)
    centres = dict(zip(DOMAINS, random.normal(size=(5, DIMENSION)), strict=True))
    update, dpo = random.normal(size=(2, DIMENSION))
    for number in range(models):
        domain, training = DOMAINS[number % 5], ("sft", "dpo")[number // 5 % 2]
        own = centres[domain] + 0.3 * random.normal(size=DIMENSION) + 0.8 * (training == "dpo") * dpo
        tags = {"domain": domain, "training": training, "mlflow.user": training, "ticket": f"{number}"}
        for version in (1, 2):
            vector = own + 0.8 * (version == 2) * update + 0.1 * random.normal(size=DIMENSION)
            embedded(tx, f"model-{number:02}", vector, version=version, tags=tags)


def ask(tx: Transaction) -> Geometry:
    [recipe] = embeddings.recipes(tx, REGISTRY)
    return geometry.geometry_of(embeddings.table(tx, recipe.id, registry=REGISTRY))


def read(database: Database) -> Measurement | None:
    with database.transaction() as tx:
        [recipe] = embeddings.recipes(tx, REGISTRY)
        return geometry.latest(tx, REGISTRY, recipe)


def test_steps_and_tags_are_measured(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        found = ask(tx)
    names = {one.name: one for one in found.differences if isinstance(one, Parallelogram)}
    assert names.keys() == {"version 1 → 2", "tag training: dpo → sft"}
    assert all(one.is_found for one in names.values())
    assert "20 of 20 models" in names["version 1 → 2"].meaning
    assert "5 of 5 domains" in names["tag training: dpo → sft"].meaning


def test_a_step_that_several_models_took_with_the_same_weights_counts_once(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(12):
            for version in (1, 2):
                vector = np.random.default_rng(version).normal(size=DIMENSION)
                embedded(tx, f"model-{number}", vector, version=version, weights=f"shared/{version}")
        found = ask(tx)
    assert found.differences == (Refusal("version 1 → 2", "models with both sides", 1, 8),)


def test_a_small_registry_is_refused(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx, models=6)
        found = ask(tx)
    assert all(isinstance(answer, Refusal) for answer in found.differences)
    assert "there are 6" in found.differences[0].meaning


def test_of_many_models_always_the_same_sample_is_measured(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "MOST_MODELS", 15)
    with database.transaction() as tx:
        fill(tx)
        one, other = ask(tx), ask(tx)
    assert one == other
    assert isinstance(one.differences[0], Parallelogram)
    assert one.differences[0].groups == 15


def test_what_was_measured_is_read_back_as_it_was_with_what_it_rests_on(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx, models=31)
        found = ask(tx)
    before = datetime.now(UTC)
    assert measure_where_due(database, SETTINGS) == 1
    stored = read(database)
    assert stored is not None
    assert stored.geometry == found
    assert (stored.versions, stored.method["seed"], stored.method["significant"]) == (62, 0, 0.05)
    assert before - timedelta(minutes=1) < stored.found_at < datetime.now(UTC) + timedelta(minutes=1)


def test_refusals_are_read_back_too(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx, models=2)
        found = ask(tx)
    measure_where_due(database, SETTINGS)
    assert isinstance(found.differences[0], Refusal)
    assert read(database).geometry == found


def test_it_is_measured_again_with_new_clusters_or_another_method_and_not_otherwise(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as tx:
        fill(tx, models=6)
        [recipe] = embeddings.recipes(tx, REGISTRY)
    assert [measure_where_due(database, SETTINGS) for _ in range(2)] == [1, 0]
    recluster(database, SETTINGS, recipe)
    assert [measure_where_due(database, SETTINGS) for _ in range(2)] == [1, 0]
    monkeypatch.setattr(geometry, "MOST_MODELS", 5)
    assert read(database) is None
    assert [measure_where_due(database, SETTINGS) for _ in range(2)] == [1, 0]


def test_a_new_measurement_is_news_to_readers(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx, models=2)
        [recipe] = embeddings.recipes(tx, REGISTRY)
    tokens = []
    for _ in range(2):
        geometry.measure(database, REGISTRY, recipe)
        with database.transaction() as tx:
            tokens.append(revision(tx, REGISTRY))
    assert tokens[0] != tokens[1]
