"""Workspaces of a real MLflow server as tenants: each watched, embedded, shown and judged apart from the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect import tags
from prefect.client.orchestration import get_client
from prefect.settings import temporary_settings

from deltadex.app import App
from deltadex.errors import RegistryError
from deltadex.findings import queries as findings
from deltadex.ingest import discovery, shard, submit, tenants
from deltadex.ingest import queries as watchers
from deltadex.ingest.watcher import _Tenants
from deltadex.registry.client import Registry
from deltadex.registry.run_artifact import logged_embeddings
from deltadex.settings import Settings
from deltadex.stack import specs
from deltadex.stack.process import Service
from deltadex.types import FindingKind, State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import shards
from deltadex_flows.embed import embed_model_version
from deltadex_flows.scheduler import prefect_settings
from tests import tiny_models
from tests.conftest import unused_port
from tests.registering import register_folder
from tests.stored import registered


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server with the workspaces `default`, `legal` and `support`."""
    data_dir = tmp_path_factory.mktemp("mlflow")
    spec = specs.mlflow_server(Settings(data_dir=data_dir, ports={"mlflow": unused_port()}))
    service = Service(replace(spec, argv=(*spec.argv, "--enable-workspaces")), data_dir / "mlflow.log")
    try:
        service.start()
        service.wait_up(120)
        assert spec.url is not None
        for name in ("legal", "support"):
            MlflowClient(spec.url, spec.url).create_workspace(name)
        yield spec.url
    finally:
        service.stop()


@pytest.fixture
def company(app: App, mlflow_url: str, data_dir: Path, tmp_path: Path) -> App:
    """Deltadex on all workspaces of that server; Prefect's runs are done by the tests."""
    base = tiny_models.build_base(tmp_path / "base")
    limits = app.settings.shards.model_copy(update={"fresh_alone": 0})
    ours = {
        "tracking_uri": mlflow_url,
        "data_dir": data_dir,
        "bases": {"acme/base": str(base)},
        "shards": limits,
        "workspaces": ("*",),
    }
    app.scheduler.deploy()
    app = replace(app, registry=Registry(mlflow_url, name="acme"), settings=app.settings.model_copy(update=ours))
    for tenant in tenants.each(app):
        client = tenant.registry.client
        for model in client.search_registered_models():
            client.delete_registered_model(model.name)
        experiment = client.get_experiment_by_name("deltadex")
        for tag in experiment.tags if experiment else ():  # the mark of an earlier test's store
            client.delete_experiment_tag(experiment.experiment_id, tag)
    return app


@pytest.fixture
def adapter(company: App, tmp_path: Path) -> Path:
    folder = tiny_models.build_adapter(Path(company.settings.bases["acme/base"]), tmp_path / "adapter")
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "acme/base"}))
    return folder


def rows(app: App, workspace: str) -> list[VersionRow]:
    return app.database.run(lambda tx: versions.listing(tx, app.settings.within(workspace).registry))


def embed_all(app: App) -> None:
    """Do the work of the flow runs of every workspace."""
    for tenant in tenants.each(app):
        submit.submit_waiting(tenant)
        for one in tenant.database.run(lambda tx, name=tenant.registry.name: shards.open_shards(tx, name)):
            shard.embed_shard(tenant, one.id, flow_run_id=one.flow_run_id or "")


def test_equal_models_of_two_workspaces_are_two_models_and_no_duplicates(
    company: App, adapter: Path, tmp_path: Path
) -> None:
    for tenant in tenants.each(company):
        if not tenants.is_default(tenant):
            register_folder(tenant.registry, "drafter", adapter)
    with company.within("legal").registry.bound():
        register_folder(company.within("legal").registry, "copy", adapter)
    _Tenants(company).take_turns(threading.Event(), is_woken=True)
    assert [row.label for row in rows(company, "default")] == []
    assert sorted(row.label for row in rows(company, "legal")) == ["copy/1", "drafter/1"]
    [alone] = rows(company, "support")
    assert alone.registered.ref.registry == "acme/support"

    embed_all(company)
    assert {row.state for name in ("legal", "support") for row in rows(company, name)} == {State.EMBEDDED}
    with company.database.transaction() as tx:
        [copies] = findings.listing(tx, "acme/legal", kinds=[FindingKind.EXACT_DUPLICATE])
        assert findings.listing(tx, "acme/support") == []
    assert {copies.finding.version_id, copies.finding.other_id} == {row.id for row in rows(company, "legal")}
    for workspace in ("legal", "support"):
        registry = company.within(workspace).registry
        with registry.bound():
            tagged = registry.read("drafter", 1)
            assert tagged is not None
            assert tagged.tags["deltadex.state"] == "embedded"
            assert len(list(logged_embeddings(registry, tagged, tmp_path / workspace))) == 1
            run = registry.client.get_run(tagged.run_id or "")
        assert f"workspaces/{workspace}/" in run.info.artifact_uri


@pytest.mark.slow
def test_a_new_workspace_is_watched_without_a_restart_and_one_that_fails_stops_no_other(
    company: App, adapter: Path, mlflow_url: str
) -> None:
    known = tenants.Tenants(company)
    assert [one.registry.workspace for one in known.read()] == ["default", "legal", "support"]
    MlflowClient(mlflow_url, mlflow_url).create_workspace("billing")
    try:
        assert [one.registry.workspace for one in known.read()] == ["billing", "default", "legal", "support"]
        register_folder(company.registry, "plain", adapter)
        round_ = _Tenants(company)
        round_.take_turns(threading.Event(), is_woken=True)
    finally:
        MlflowClient(mlflow_url, mlflow_url).delete_workspace("billing", "CASCADE")
    round_.take_turns(threading.Event(), is_woken=True)
    with company.database.transaction() as tx:
        failed, others = watchers.read(tx, "acme/billing"), [watchers.read(tx, name) for name in ("acme", "acme/legal")]
        assert watchers.workspaces(tx, "acme") == ("billing", "default", "legal", "support")
    assert "billing" in failed.error
    assert [one.error for one in others] == ["", ""]
    assert [row.label for row in rows(company, "default")] == ["plain/1"]


def test_a_workspace_that_does_not_exist_is_named(company: App) -> None:
    settings = company.settings.model_copy(update={"workspaces": ("legal", "legl")})
    with pytest.raises(RegistryError, match="'legl'") as caught:
        tenants.watched(company.registry, settings)
    assert "default, legal, support" in caught.value.hint


def test_a_server_without_workspaces_says_so(app: App) -> None:
    settings = app.settings.model_copy(update={"workspaces": ("*",)})
    with pytest.raises(RegistryError, match="has no workspaces") as caught:
        tenants.watched(app.registry, settings)
    assert "DELTADEX_WORKSPACES" in caught.value.hint


def test_a_workspace_s_client_refuses_to_read_another_one(company: App) -> None:
    registry = company.within("legal").registry
    with pytest.raises(RuntimeError, match="bound"):
        registry.read("drafter", 1)
    with company.within("support").registry.bound(), pytest.raises(RuntimeError, match="bound"):
        registry.set_tag(registered(registry="acme/legal").ref, "key", "value")


@pytest.mark.slow
def test_each_workspace_has_analyses_of_its_own(company: App) -> None:
    legal = company.within("legal").scheduler
    run_id = legal.submit_analyses()
    assert run_id is not None
    assert company.scheduler.submit_analyses() not in (None, run_id)
    assert legal.submit_analyses() is None, "the first one still waits"
    with temporary_settings(prefect_settings(company.settings)), get_client(sync_client=True) as client:
        assert "workspace:legal" in client.read_flow_run(UUID(run_id)).tags


@pytest.mark.slow
def test_a_flow_run_acts_in_the_workspace_that_its_tag_names(
    company: App, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, legal = company.settings, company.within("legal")
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", settings.mlflow_uri)
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", settings.prefect_url)
    monkeypatch.setenv("DELTADEX_DATABASE__URL", settings.database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", "acme")
    monkeypatch.setenv("DELTADEX_BASES", json.dumps(settings.bases))
    with legal.registry.bound():
        register_folder(legal.registry, "drafter", adapter)
        discovery.poll(legal)
    [row] = rows(company, "legal")
    with temporary_settings(prefect_settings(settings)), tags("workspace:legal"):
        state = embed_model_version(row.id, row.attempt, return_state=True)
    assert state.is_completed(), state.message
    [row] = rows(company, "legal")
    assert row.state is State.EMBEDDED
    assert "workspaces/legal/" in (row.artifact_uri or "")
