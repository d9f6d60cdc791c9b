"""Analyses on a worker: run when due, one run at a time, and never in an idle registry."""

from __future__ import annotations

import numpy as np
import pytest
from prefect.settings import temporary_settings

from deltadex.app import App
from deltadex.clusters import queries as clusters
from deltadex.embeddings import queries as embeddings
from deltadex.ingest.analyses import are_due, one_run, submit_analyses
from deltadex.store.database import Transaction
from deltadex_flows.analyse import analyse_registry
from deltadex_flows.scheduler import prefect_settings
from tests.flows.test_scheduler import end_analyses
from tests.stored import embedded


@pytest.fixture
def deployed(app: App, monkeypatch: pytest.MonkeyPatch) -> App:
    """Services without an unfinished run, as flows read them from the environment."""
    app.scheduler.deploy()
    settings = app.settings
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", settings.mlflow_uri)
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", settings.prefect_url)
    monkeypatch.setenv("DELTADEX_DATABASE__URL", settings.database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", app.registry.name)
    end_analyses(app)
    return app


def embed_some(tx: Transaction) -> None:
    for number in range(4):
        embedded(tx, f"model-{number}", np.random.default_rng(number).normal(size=16))


def test_an_idle_registry_starts_no_run(deployed: App) -> None:
    assert submit_analyses(deployed) is None


def test_new_versions_start_one_run_which_computes_everything_that_is_due(deployed: App) -> None:
    with deployed.database.transaction() as tx:
        embed_some(tx)
    run_id = submit_analyses(deployed)
    assert run_id is not None
    assert submit_analyses(deployed) is None, "it waits for a worker"
    deployed.scheduler.crash(run_id, reason="for the test")
    with temporary_settings(prefect_settings(deployed.settings)):
        assert "1 clustered, 1 measured, 1 laid out" in analyse_registry()
        assert "0 clustered, 0 measured, 0 laid out" in analyse_registry()
    with deployed.database.transaction() as tx:
        [recipe] = embeddings.recipes(tx, deployed.registry.name)
        assert clusters.latest_run(tx, recipe.id, deployed.registry.name) is not None
        assert not are_due(tx, deployed.settings)
    assert submit_analyses(deployed) is None


def test_nothing_is_started_where_a_process_computes(deployed: App) -> None:
    with deployed.database.transaction() as tx:
        embed_some(tx)
    with one_run(deployed) as is_free:
        assert is_free
        assert submit_analyses(deployed) is None
        with temporary_settings(prefect_settings(deployed.settings)):
            assert analyse_registry() == "another run is in progress"
    run_id = submit_analyses(deployed)
    assert run_id is not None
    deployed.scheduler.crash(run_id, reason="for the test")
