"""The replay flow on real services: from the request to the agreement, an error, or a run that died."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.settings import temporary_settings

from deltadex.app import App
from deltadex.asked.queries import AskedState
from deltadex.ingest import discovery
from deltadex.replay import queries as replays
from deltadex.replay import reads, submit
from deltadex.replay.ask import ask
from deltadex.replay.queries import ReplayRow
from deltadex.versions import queries as versions
from deltadex_flows.replay import replay_versions
from deltadex_flows.scheduler import prefect_settings
from tests import tiny_models
from tests.flows.test_embed_flow import adapter
from tests.registering import register_folder
from tests.stored import ADMIN

PROMPTS = tuple(f"Describe task {number}." for number in range(12))


@pytest.fixture
def replaying(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """Services with a base, an adapter of it, its copy, another adapter, and one whose base is away."""
    base = tiny_models.build_base(tmp_path / "base")
    bases = {"acme/base": str(base)}
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(app.settings.data_dir))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", app.settings.mlflow_uri)
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", app.settings.prefect_url)
    monkeypatch.setenv("DELTADEX_DATABASE__URL", app.settings.database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", app.registry.name)
    monkeypatch.setenv("DELTADEX_BASES", json.dumps(bases))
    monkeypatch.setenv("DELTADEX_WORK_POOL", app.settings.work_pool)
    for name, seed in (("keeper", 1), ("copy", 1), ("unlike", 2)):
        register_folder(app.registry, name, adapter(base, tmp_path / name, seed=seed, strength=0.5))
    register_folder(app.registry, "lost", tmp_path / "unlike", **{"deltadex.base": "acme/gone"})
    discovery.poll(app)
    return app


def ask_for(app: App, *names: str) -> int:
    with app.database.transaction() as tx:
        keeper, other = (versions.find(tx, app.registry.name, name, 1)[0].id for name in names)
        return ask(tx, ADMIN, app.settings, keeper, other, PROMPTS)


def read(app: App, replay_id: int) -> ReplayRow:
    return app.database.run(lambda tx: reads.get(tx, ADMIN, app.settings, replay_id))


def run(app: App, *names: str) -> ReplayRow:
    replay_id = ask_for(app, *names)
    with temporary_settings(prefect_settings(app.settings)):
        state = replay_versions(replay_id, return_state=True)
    row = read(app, replay_id)
    assert state.is_completed() == (row.state is AskedState.DONE)
    return row


def test_equal_versions_agree_fully_and_others_do_not(replaying: App) -> None:
    same, unlike = run(replaying, "keeper", "copy"), run(replaying, "keeper", "unlike")
    assert same.agreement is not None, same.reason
    assert (same.agreement.equal.value, same.agreement.gap.value, same.agreement.prompts) == (1, 0, len(PROMPTS))
    assert same.keeper_digest == same.other_digest
    assert unlike.agreement is not None
    assert unlike.agreement.equal.value < 0.5
    assert unlike.agreement.gap.low > 0
    assert unlike.keeper_digest != unlike.other_digest
    with temporary_settings(prefect_settings(replaying.settings)):
        assert replay_versions(same.id, return_state=True).is_completed()
    assert read(replaying, same.id) == same, "it had ended already"


def test_a_replay_without_its_base_fails_with_what_to_do(replaying: App) -> None:
    row = run(replaying, "keeper", "lost")
    assert row.state is AskedState.FAILED
    assert "acme/gone" in row.reason
    assert row.hint


def test_a_replay_is_submitted_once_and_fails_with_its_run(replaying: App) -> None:
    replaying.scheduler.deploy()
    replay_id = ask_for(replaying, "keeper", "copy")
    assert [submit.submit_asked(replaying) for _ in range(2)] == [1, 0]
    with replaying.database.transaction() as tx:
        [run_id] = replays.REPLAYS.under_way(tx, replaying.registry.name).values()
        assert replays.begin(tx, replay_id, flow_run_id=run_id) == PROMPTS
    replaying.scheduler.crash(run_id, "killed")
    submit.submit_asked(replaying)
    row = read(replaying, replay_id)
    assert (row.state, row.reason) == (AskedState.FAILED, "its flow run died")
    ask_for(replaying, "keeper", "copy")
    assert submit.submit_asked(replaying) == 1, "it was asked again"
