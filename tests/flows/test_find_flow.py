"""The search flow on real services, from the request to the answer or the error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.settings import temporary_settings

from deltadex.access import Person, Role
from deltadex.app import App
from deltadex.asked.queries import AskedState
from deltadex.engine.examples import Example
from deltadex.errors import BaseNotFound
from deltadex.find import queries as task_searches
from deltadex.find import search, submit
from deltadex.find.queries import SearchRow
from deltadex.ingest import discovery
from deltadex.versions import queries as versions
from deltadex_flows.embed import embed_model_version
from deltadex_flows.find import find_models
from deltadex_flows.scheduler import prefect_settings
from tests import tiny_models
from tests.flows.test_embed_flow import declare
from tests.registering import register_folder

ADA = Person("ada", Role.VIEWER)
EXAMPLES = (Example("Respond.", "appropriately"), Example("Describe.", "the task")) * 2


@pytest.fixture
def searching(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """Services that know a base, as flows read them from the environment."""
    base = tiny_models.build_base(tmp_path / "base")
    bases = {"acme/base": str(base), "acme/gone": str(tmp_path / "gone")}
    made = App(app.settings.model_copy(update={"bases": bases}), app.database, app.registry, app.scheduler)
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(app.settings.data_dir))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", app.settings.mlflow_uri)
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", app.settings.prefect_url)
    monkeypatch.setenv("DELTADEX_DATABASE__URL", app.settings.database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", app.registry.name)
    monkeypatch.setenv("DELTADEX_BASES", json.dumps(bases))
    monkeypatch.setenv("DELTADEX_WORK_POOL", app.settings.work_pool)
    monkeypatch.setenv("DELTADEX_FIND__STEPS", "3")
    return made


def embed_one(made: App, tmp_path: Path) -> None:
    tiny_models.build_adapter(tmp_path / "base", tmp_path / "adapter")
    version = register_folder(made.registry, "sql-writer", declare(tmp_path / "adapter", "acme/base"))
    discovery.poll(made)
    with made.database.transaction() as tx:
        [row] = versions.find(tx, made.registry.name, "sql-writer", version.ref.version)
    with temporary_settings(prefect_settings(made.settings)):
        assert embed_model_version(row.id, row.attempt, return_state=True).is_completed()


def ask(app: App, base: str) -> int:
    return app.database.run(lambda tx: search.ask(tx, ADA, app.settings, base, EXAMPLES))


def run(app: App, search_id: int) -> SearchRow:
    with temporary_settings(prefect_settings(app.settings)):
        state = find_models(search_id, return_state=True)
    with app.database.transaction() as tx:
        row = task_searches.get(tx, app.registry.name, search_id)
    assert state.is_completed() == (row.state is AskedState.DONE)
    return row


def test_a_search_is_submitted_once_trained_and_answered(searching: App, tmp_path: Path) -> None:
    embed_one(searching, tmp_path)
    searching.scheduler.deploy()
    search_id = ask(searching, "acme/base")
    assert [submit.submit_asked(searching) for _ in range(2)] == [1, 0]
    with searching.database.transaction() as tx:
        queued = task_searches.get(tx, searching.registry.name, search_id)
    assert (queued.state, bool(queued.flow_run_id)) == (AskedState.QUEUED, True)
    row = run(searching, search_id)
    assert row.state is AskedState.DONE, row.reason
    assert row.delta is not None
    with searching.database.transaction() as tx:
        found = search.models_for(tx, ADA, searching.settings, row.delta)
    assert [one.version.label for one in found.models] == ["sql-writer/1"], found.note
    assert len(row.delta.halves) == row.delta.halves_planned == 4, "the flow went on after the answer"
    assert found.certainty is not None
    assert (found.certainty.agreeing, found.certainty.halves) == (4, 4), "there is one model"
    again = run(searching, search_id)
    assert again.delta is not None
    assert (again.delta.strength, again.state_since) == (row.delta.strength, row.state_since), "it had ended already"


def test_a_search_without_its_base_fails_with_what_to_do(searching: App) -> None:
    with pytest.raises(BaseNotFound, match="acme/unheard-of") as unknown:
        ask(searching, "acme/unheard-of")
    assert "acme/base, acme/gone" in unknown.value.hint
    row = run(searching, ask(searching, "acme/gone"))
    assert row.state is AskedState.FAILED
    assert "gone is not a folder" in row.reason
    assert row.hint
