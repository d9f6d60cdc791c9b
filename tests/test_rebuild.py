"""The store is lost, and is there again from what lies on MLflow's runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltadex import discovery, fetching, pipeline
from deltadex.activations.artifact import MANIFEST, TENSORS
from deltadex.checkpoints.fit import Fit
from deltadex.domain import Embedding, State, VersionRow
from deltadex.rebuild import Rebuilt, rebuild
from deltadex.services import Services
from deltadex.settings import Settings
from deltadex.store import embeddings, findings, versions
from deltadex.store.database import Database
from deltadex.store.embeddings import StoredEmbedding
from deltadex.store.migrate import migrate
from tests import tiny_models
from tests.registering import register_folder
from tests.store.examples import embedding

FIT = Fit(compared=4, identical=0, median_distance=0.1, largest=())
RIGHT, UP = np.array([3.0, 0.1, 0.2], np.float32), np.array([0.1, 2.0, 0.3], np.float32)


@pytest.fixture
def anew(services: Services, new_database_url: Callable[..., str]) -> Iterator[Services]:
    """The same registry with an empty store."""
    with Database(new_database_url()) as database:
        migrate(database)
        yield replace(services, database=database)


@pytest.fixture
def register(services: Services, tmp_path: Path) -> Callable[..., VersionRow]:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")

    def create(name: str, *values: Embedding, has_run: bool = True) -> VersionRow:
        """Register a version and write these embeddings of it."""
        if has_run:
            register_folder(services.registry, name, folder)
        else:
            services.registry.client.create_registered_model(name)
            services.registry.client.create_model_version(name, f"s3://elsewhere/{name}")
        discovery.poll(services)
        with services.database.transaction() as tx:
            row = versions.find(tx, services.registry.name, name)[0]
        for value in values:
            log(services, row, value)
        return row

    return create


def log(services: Services, row: VersionRow, value: Embedding) -> str:
    uri = pipeline.write_back(services, row.registered, value, base_name="acme/base", fit=FIT, seconds={})
    pipeline.store_and_find(services, row, value, base_name="acme/base", artifact_uri=uri)
    return uri


def content(services: Services) -> dict[str, object]:
    """Everything that is derived from the artifacts, by names that outlast ids."""

    def plain(stored: StoredEmbedding) -> tuple[object, ...]:
        numbers = stored.vector.tobytes(), stored.norm, stored.strength, stored.agreement
        return stored.recipe.digest, *numbers, stored.is_weak

    with services.database.transaction() as tx:
        rows = versions.listing(tx, services.registry.name)
        spaces = embeddings.recipes(tx, services.registry.name)
        found = findings.listing(tx, services.registry.name)
        return {
            "versions": {row.label: (row.state, row.weights_digest, row.artifact_uri) for row in rows},
            "embeddings": {row.label: [plain(stored) for stored in embeddings.of_version(tx, row.id)] for row in rows},
            "findings": sorted(
                (each.finding.kind, each.version.label, each.other.label if each.other else "", each.finding.measure)
                for each in found
            ),
            "recipes": sorted((space.digest, space.base_name, space.noise_floor) for space in spaces),
        }


def restore(services: Services) -> Rebuilt:
    return rebuild(services, on_progress=lambda *_: None)


def test_a_lost_store_is_rebuilt_with_all_that_follows(
    services: Services, anew: Services, register: Callable[..., VersionRow]
) -> None:
    register("one", replace(embedding(RIGHT), noise_floor=1e-6))
    register("one", embedding(UP, weights="w2"))
    register("copy", embedding(RIGHT))
    register("moved", embedding(UP, weights="w3", base="old"), embedding(UP, weights="w3", base="new"))
    register("without a run", embedding(RIGHT, weights="w4"), has_run=False)
    register("not embedded")
    services.registry.client.rename_registered_model("copy", "renamed")
    discovery.sweep(services)

    assert restore(anew) == Rebuilt(restored=6, unchanged=0, without=1)
    assert content(anew) == content(services)
    assert content(anew)["findings"]
    assert restore(anew) == Rebuilt(restored=0, unchanged=6, without=1)


def test_what_a_flow_really_embedded_comes_back_to_the_bit(services: Services, anew: Services, tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    tiny_models.build_adapter(base, tmp_path / "adapter")
    services = replace(services, settings=services.settings.model_copy(update={"bases": {str(base): str(base)}}))
    register_folder(services.registry, "real", tmp_path / "adapter")
    discovery.poll(services)
    with services.database.transaction() as tx:
        [row] = versions.listing(tx, services.registry.name)
    with fetching.workspace(services, row) as hold, pipeline.embedding_process(services.settings) as process:
        resolved = fetching.resolve(services, row, hold)
        fetched = fetching.fetch(services, resolved)
        value = pipeline.embed(process, fetched, deadline_seconds=120)
    uri = pipeline.write_back(
        services, row.registered, value, base_name=resolved.base_name, fit=fetched.fit, seconds={}
    )
    pipeline.store_and_find(services, row, value, base_name=resolved.base_name, artifact_uri=uri)
    pipeline.end_embedding_process(services.settings)

    assert restore(anew) == Rebuilt(restored=1)
    assert content(anew) == content(services)


@pytest.mark.parametrize("file", [TENSORS, MANIFEST])
def test_a_damaged_artifact_is_named_and_stops_nothing(
    servers: Settings, services: Services, anew: Services, register: Callable[..., VersionRow], file: str
) -> None:
    row = register("damaged", embedding(RIGHT))
    register("whole", embedding(UP, weights="w2"))
    [path] = (servers.data_dir / "mlflow").rglob(f"{row.registered.run_id}/artifacts/deltadex/damaged-v1/*/{file}")
    changed = bytearray(path.read_bytes())
    changed[-2] ^= 1
    path.write_bytes(changed)

    done = restore(anew)
    assert (done.restored, [label for label, _ in done.problems]) == (1, [row.label])
    with anew.database.transaction() as tx:
        [damaged] = versions.find(tx, services.registry.name, "damaged")
    assert damaged.state is State.DISCOVERED


def test_a_store_that_differs_is_told_and_not_changed(services: Services, register: Callable[..., VersionRow]) -> None:
    row = register("one", embedding(RIGHT))
    other = replace(embedding(RIGHT), probe_deltas=embedding(UP).probe_deltas)
    pipeline.write_back(services, row.registered, other, base_name="b", fit=FIT, seconds={})
    before = content(services)
    assert [label for label, _ in restore(services).problems] == ["one/1"]
    assert content(services) == before


def test_a_copied_version_does_not_take_the_embedding_of_another(
    services: Services, anew: Services, register: Callable[..., VersionRow]
) -> None:
    row = register("one", embedding(RIGHT))
    services.registry.client.copy_model_version("models:/one/1", "copied")
    done = restore(anew)
    assert (done.restored, done.without, done.problems) == (1, 1, [])
    with anew.database.transaction() as tx:
        embedded = versions.listing(tx, services.registry.name, states={State.EMBEDDED})
    assert [each.label for each in embedded] == [row.label]
