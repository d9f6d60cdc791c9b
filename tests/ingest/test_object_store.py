"""Finetunes whose files lie in S3, from their registration to the vector: through MLflow's server, and past it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from deltadex import machine_limits
from deltadex.app import App
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.artifact import read_artifact
from deltadex.engine import shared
from deltadex.errors import RegistryError, Resource, Shortage
from deltadex.ingest import discovery, machines, shard, submit
from deltadex.registry.artifacts import ArtifactSource
from deltadex.registry.client import Registry
from deltadex.registry.run_artifact import logged_embeddings
from deltadex.types import RegisteredVersion, State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import shards
from tests import tiny_models
from tests.object_store import FOREIGN, MODELS, ObjectStore, mlflow_on, running_object_store, take_credentials

DIRECT = f"s3://{MODELS}/direct"
Register = Callable[..., RegisteredVersion]


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with running_object_store() as store:
        yield store


@pytest.fixture(scope="module")
def mlflow_url(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_on(store, tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture
def company(app: App, mlflow_url: str, data_dir: Path, tmp_path: Path) -> App:
    """Deltadex on the MLflow whose artifacts are in S3; Prefect's runs are done by the tests."""
    base = tiny_models.build_base(tmp_path / "base")
    limits = app.settings.shards.model_copy(update={"fresh_alone": 0})
    ours = {"tracking_uri": mlflow_url, "data_dir": data_dir, "bases": {"acme/base": str(base)}, "shards": limits}
    registry = Registry(mlflow_url, name="acme")
    for model in registry.client.search_registered_models():
        registry.client.delete_registered_model(model.name)
    app.scheduler.deploy()
    return replace(app, registry=registry, settings=app.settings.model_copy(update=ours))


@pytest.fixture
def register(company: App, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Register:
    """Train nothing, but really build an adapter, and log and register it by MLflow's client, as its author."""

    def new(name: str, *, artifacts: str | None = None, run_artifacts: str | None = None) -> RegisteredVersion:
        folder = tiny_models.build_adapter(Path(company.settings.bases["acme/base"]), tmp_path / name)
        config = folder / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "acme/base"}))
        take_credentials(monkeypatch, store.environment)
        client = company.registry.client
        run = client.create_run(client.create_experiment(f"{name} {tmp_path}", artifacts))
        client.log_artifacts(run.info.run_id, str(folder), artifact_path="checkpoint")
        source = f"{run.info.artifact_uri}/checkpoint"
        if run_artifacts:
            run = client.create_run(client.create_experiment(f"run of {name} {tmp_path}", run_artifacts))
        client.create_registered_model(name)
        client.create_model_version(name, source, run_id=run.info.run_id)
        version = company.registry.read(name, 1)
        assert version is not None
        return version

    return new


def embed(app: App) -> VersionRow:
    """Take the one registered version through a flow run's work, and return its row."""
    discovery.poll(app)
    submit.submit_waiting(app)
    [one] = app.database.run(lambda tx: shards.open_shards(tx, app.registry.name))
    shard.embed_shard(app, one.id, flow_run_id=one.flow_run_id or "")
    return row_of(app)


def row_of(app: App) -> VersionRow:
    [row] = app.database.run(lambda tx: versions.listing(tx, app.registry.name))
    return row


@pytest.mark.parametrize("artifacts", [None, DIRECT], ids=["proxied", "direct"])
def test_a_finetune_in_s3_is_embedded_and_its_embedding_written_back(
    company: App,
    store: ObjectStore,
    register: Register,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    artifacts: str | None,
) -> None:
    version = register("support", artifacts=artifacts)
    # Behind MLflow's server only that server has credentials.
    take_credentials(monkeypatch, store.environment if artifacts else None)
    row = embed(company)
    assert (row.state, row.reason) == (State.EMBEDDED, "")
    assert (row.artifact_uri or "").startswith(f"{artifacts or 'mlflow-artifacts:'}/")
    top = "direct/" if artifacts else "proxied/"
    written = [key for key in store.list_keys() if key.startswith(top) and "/deltadex/support-v1/" in key]
    assert {"manifest.json"} < {key.rpartition("/")[2] for key in written}
    tagged = company.registry.read("support", 1)
    assert tagged is not None
    assert tagged.tags["deltadex.artifact"] == row.artifact_uri
    [(_, folder)] = logged_embeddings(company.registry, version, tmp_path / "logged")
    logged = read_artifact(folder)
    vector = company.database.run(lambda tx: embeddings.stored_vector(tx, row.id, logged))
    assert vector is not None
    assert np.linalg.norm(vector) > 0
    assert vector == pytest.approx(logged.vector, abs=1e-6)
    with shared.embedding_process(company.settings) as process:
        given = psutil.Process(process.pid).environ()
    assert not [name for name, value in given.items() if name.startswith("AWS") or store.secret in value]


def test_a_worker_without_credentials_loses_nothing_and_its_successor_goes_on(
    company: App, store: ObjectStore, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("support", artifacts=DIRECT)
    take_credentials(monkeypatch)
    row = embed(company)
    assert (row.state, row.lacking) == (State.WAITING, Resource.STORE)
    assert "NoCredentialsError" in row.reason
    assert "AWS_ACCESS_KEY_ID" in row.hint
    tagged = company.registry.read("support", 1)
    assert tagged is not None
    assert tagged.tags["deltadex.state"] == "waiting"
    company.database.run(lambda tx: machines.report(tx, company.settings))
    assert machines.resume(company) == 0, "the same worker would be refused again"

    take_credentials(monkeypatch, store.environment)
    monkeypatch.setattr(machine_limits, "_STARTED", time.time())  # a worker that starts reads them
    company.database.run(lambda tx: machines.report(tx, company.settings))
    assert machines.resume(company) == 1
    row = embed(company)
    assert (row.state, row.attempt) == (State.EMBEDDED, 2)


@pytest.mark.slow
def test_an_embedding_that_may_not_be_written_back_waits_and_is_not_recorded(
    company: App, store: ObjectStore, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("support", artifacts=DIRECT, run_artifacts=f"s3://{FOREIGN}/runs")
    take_credentials(monkeypatch, store.environment)
    row = embed(company)
    assert (row.state, row.lacking) == (State.WAITING, Resource.STORE)
    assert "logging the embedding of support/1" in row.reason
    assert "AccessDenied" in row.reason
    assert company.database.run(lambda tx: embeddings.of_version(tx, row.id)) == []
    with company.database.transaction() as tx:  # rights are given at the store, without a new worker
        tx.execute("update model_versions set state_since = now() - interval '61 minutes'")
    assert machines.resume(company) == 1
    assert row_of(company).state is State.DISCOVERED


@pytest.mark.parametrize(
    ("changed", "uri", "reason"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIAGONE"}, DIRECT, "InvalidAccessKeyId"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, DIRECT, "SignatureDoesNotMatch"),
        ({}, "s3://company-typo/direct", "NoSuchBucket"),
        ({}, f"s3://{FOREIGN}/direct", "AccessDenied"),
    ],
)
def test_a_refusal_of_the_store_is_told_with_its_kind(
    mlflow_url: str,
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    uri: str,
    reason: str,
) -> None:
    take_credentials(monkeypatch, {**store.environment, **changed})
    with pytest.raises(Shortage, match=reason) as caught:
        ArtifactSource(Registry(mlflow_url, name="acme"), uri, where="support/1").listing()
    assert "listing the artifacts of support/1" in caught.value.message
    assert "MLFLOW_S3_ENDPOINT_URL" in caught.value.hint
    assert caught.value.resource is Resource.STORE


def test_a_store_that_is_away_is_tried_again(
    mlflow_url: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_credentials(
        monkeypatch,
        {**store.environment, "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
    )
    with pytest.raises(RegistryError, match="EndpointConnectionError") as caught:
        ArtifactSource(Registry(mlflow_url, name="acme"), DIRECT, where="support/1").listing()
    assert caught.value.retryable
