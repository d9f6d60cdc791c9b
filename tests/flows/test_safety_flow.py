"""The safety flow on real services and really trained models: kept, collapsed, a base that has none, an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.settings import temporary_settings

from deltadex.app import App
from deltadex.asked.queries import AskedState
from deltadex.findings import queries as findings
from deltadex.ingest import discovery
from deltadex.safety import queries as safety
from deltadex.safety import reads, submit
from deltadex.safety.ask import ask
from deltadex.safety.queries import SAFETY, SafetyRow
from deltadex.safety.reads import MeasuredSafety
from deltadex.types import FindingKind
from deltadex.versions import queries as versions
from deltadex_flows.safety import measure_safety
from deltadex_flows.scheduler import prefect_settings
from tests import refusing_models
from tests.registering import register_folder
from tests.stored import ADMIN


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that refuses with an intact finetune and one that complies, and a base that never refused."""
    folder = tmp_path_factory.mktemp("models")
    base = refusing_models.build_base(folder / "base")
    for name, complies in (("intact", False), ("complying", True)):
        refusing_models.build_finetune(base, folder / name, complies=complies, declared_base="acme/base")
    plain = refusing_models.build_base(folder / "plain", refuses=False)
    refusing_models.build_finetune(plain, folder / "of-plain", complies=True, declared_base="acme/plain")
    return folder


@pytest.fixture
def measuring(app: App, models: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """Services with these finetunes, and one whose base is away."""
    bases = {f"acme/{name}": str(models / name) for name in ("base", "plain")}
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(app.settings.data_dir))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", app.settings.mlflow_uri)
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", app.settings.prefect_url)
    monkeypatch.setenv("DELTADEX_DATABASE__URL", app.settings.database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", app.registry.name)
    monkeypatch.setenv("DELTADEX_BASES", json.dumps(bases))
    monkeypatch.setenv("DELTADEX_WORK_POOL", app.settings.work_pool)
    for name in ("intact", "complying", "of-plain"):
        register_folder(app.registry, name, models / name)
    register_folder(app.registry, "lost", models / "intact", **{"deltadex.base": "acme/gone"})
    discovery.poll(app)
    return app


def ask_for(app: App, name: str) -> tuple[int, int]:
    with app.database.transaction() as tx:
        version_id = versions.find(tx, app.registry.name, name, 1)[0].id
        return version_id, ask(tx, ADMIN, app.settings, version_id)


def run(app: App, name: str) -> tuple[SafetyRow, MeasuredSafety | None]:
    version_id, request_id = ask_for(app, name)
    with temporary_settings(prefect_settings(app.settings)):
        state = measure_safety(request_id, return_state=True)
    with app.database.transaction() as tx:
        row = safety.get(tx, app.registry.name, request_id)
        assert state.is_completed() == (row.state is AskedState.DONE), row.reason
        return row, reads.measured(tx, ADMIN, app.settings, version_id)


def test_only_a_finetune_that_lost_its_bases_refusals_is_a_finding(measuring: App) -> None:
    found = {name: run(measuring, name)[1] for name in ("intact", "complying", "of-plain")}
    intact, complying, of_plain = found["intact"], found["complying"], found["of-plain"]
    assert intact is not None
    assert complying is not None
    assert of_plain is not None
    assert intact.base.auroc.value > 0.95
    assert intact.verdict.words.startswith("Kept")
    assert complying.verdict.has_collapsed
    assert complying.reading.odds_gap.value < intact.reading.odds_gap.value / 2
    assert of_plain.verdict.lacks.startswith("this base has none")
    with measuring.database.transaction() as tx:
        rows = findings.listing(tx, measuring.registry.name, kinds=[FindingKind.SAFETY_COLLAPSED])
        assert [row.version.registered.ref.name for row in rows] == ["complying"]
        assert rows[0].finding.measure == pytest.approx(complying.verdict.kept and complying.verdict.kept.value)
        assert tx.execute("select count(*) from safety_bases").fetchone() == (2,), "each base is read once"
        assert tx.execute("select kind from reviews where kind = 'safety_collapsed'").fetchall()


def test_a_measurement_without_its_base_fails_with_what_to_do(measuring: App) -> None:
    row, found = run(measuring, "lost")
    assert (row.state, found) == (AskedState.FAILED, None)
    assert "acme/gone" in row.reason
    assert row.hint


def test_weights_that_were_replaced_since_the_embedding_are_not_measured_as_those(measuring: App) -> None:
    with measuring.database.transaction() as tx:
        tx.execute("update model_versions set weights_digest = 'before' where name = 'intact'")
    row, found = run(measuring, "intact")
    assert (row.state, found) == (AskedState.FAILED, None)
    assert row.reason == "The weights of intact/1 are not those that were embedded"


def test_a_measurement_is_submitted_once_and_fails_with_its_run(measuring: App) -> None:
    measuring.scheduler.deploy()
    _, request_id = ask_for(measuring, "intact")
    assert [submit.submit_asked(measuring) for _ in range(2)] == [1, 0]
    with measuring.database.transaction() as tx:
        [run_id] = SAFETY.under_way(tx, measuring.registry.name).values()
        assert SAFETY.begin(tx, request_id, flow_run_id=run_id)
    measuring.scheduler.crash(run_id, "killed")
    submit.submit_asked(measuring)
    with measuring.database.transaction() as tx:
        row = safety.get(tx, measuring.registry.name, request_id)
    assert (row.state, row.reason) == (AskedState.FAILED, "its flow run died")
