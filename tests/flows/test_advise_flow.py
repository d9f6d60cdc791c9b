"""The advice flow on real services and really trained models: reuse, the base, training, few examples, an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.settings import temporary_settings

from deltadex.access import Person, Role
from deltadex.advise import queries as advice
from deltadex.advise import reads, submit, words
from deltadex.advise.ask import ask
from deltadex.advise.queries import ADVICE, AdviceOrder, AdviceRow
from deltadex.advise.rule import Choice
from deltadex.app import App
from deltadex.asked.queries import AskedState
from deltadex.engine.examples import Example
from deltadex.ingest import discovery
from deltadex.versions import queries as versions
from deltadex_flows.advise import advise_task
from deltadex_flows.scheduler import prefect_settings
from tests import copying_models
from tests.registering import register_folder

BASE = "acme/copier"
ADA = Person("ada", Role.VIEWER)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a base that copies, and of finetunes that swap and double."""
    folder = tmp_path_factory.mktemp("trained")
    base = copying_models.build_base(folder / "base")
    for task in ("swap", "double"):
        copying_models.build_finetune(base, folder / task, task, declared_base=BASE)
    return folder


@pytest.fixture
def advising(app: App, trained: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """Services with these models registered, and settings as flows read them from the environment."""
    bases = {BASE: str(trained / "base"), "acme/gone": str(trained / "gone")}
    variables = {
        "DATA_DIR": str(app.settings.data_dir),
        "TRACKING_URI": app.settings.mlflow_uri,
        "PREFECT_API_URL": app.settings.prefect_url,
        "DATABASE__URL": app.settings.database_url,
        "REGISTRY": app.registry.name,
        "BASES": json.dumps(bases),
        "WORK_POOL": app.settings.work_pool,
        "FIND__STEPS": "3",
        "ADVISE__STEPS": "60",
        "FIND__LEARNING_RATE": "0.0005",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"DELTADEX_{name}", value)
    for task in ("swap", "double"):
        register_folder(app.registry, task, trained / task)
    discovery.poll(app)
    return App(app.settings.model_copy(update={"bases": bases}), app.database, app.registry, app.scheduler)


def order(app: App, *names: str, selector: str = "bm25", is_trained: bool = False) -> AdviceOrder:
    with app.database.transaction() as tx:
        ids = tuple(versions.find(tx, app.registry.name, name, 1)[0].id for name in names)
    return AdviceOrder(selector, 2, ids, is_trained)


def run(app: App, examples: list[Example], wanted: AdviceOrder, *, base: str = BASE) -> AdviceRow:
    request_id = app.database.run(lambda tx: ask(tx, ADA, app.settings, base, examples, wanted))
    with temporary_settings(prefect_settings(app.settings)):
        state = advise_task(request_id, return_state=True)
    row = app.database.run(lambda tx: reads.get(tx, ADA, app.settings, request_id))
    assert state.is_completed() == (row.state is AskedState.DONE), row.reason
    return row


def test_a_finetune_that_knows_the_task_is_named(advising: App) -> None:
    examples = copying_models.examples("swap", 40, seed=9)
    row = run(advising, [*examples, examples[0]], order(advising, "double", "swap", selector="embedding"))
    found = row.advice
    assert found is not None, row.reason
    assert found.recommended is Choice.REUSE
    assert words.recommendation(found).startswith("Reuse swap/1")
    assert (found.examples, found.duplicates) == (40, 1)
    reuse, prompt = found.of(Choice.REUSE), found.of(Choice.PROMPT)
    assert reuse is not None
    assert prompt is not None
    assert reuse.gain.low > 1
    assert reuse.exact is not None
    assert reuse.exact.value > found.base.exact.value  # type: ignore[union-attr]
    assert prompt.usage.extra > 10, "two examples of some seven tokens"
    with temporary_settings(prefect_settings(advising.settings)):
        assert advise_task(row.id, return_state=True).is_completed()
    assert advising.database.run(lambda tx: reads.get(tx, ADA, advising.settings, row.id)) == row, (
        "it had ended already"
    )


def test_a_base_that_knows_the_task_is_enough(advising: App) -> None:
    found = run(advising, copying_models.examples("copy", 40, seed=9), order(advising, "double", "swap")).advice
    assert found is not None
    assert found.recommended is Choice.BASE


def test_training_is_scored_on_examples_that_it_never_saw(advising: App) -> None:
    """Without a finetune for the task, training on half of the examples learns it for the other half."""
    examples = copying_models.examples("swap", 60, seed=9)
    found = run(advising, examples, order(advising, "double", is_trained=True)).advice
    assert found is not None
    train = found.of(Choice.TRAIN)
    assert train is not None
    assert train.gain.low > 0
    assert train.usage.training > 60 * 4 * 5
    # The answers are random, so that training that had seen them would know them.
    random_answers = [
        Example(one.prompt, other.completion) for one, other in zip(examples, examples[7:] + examples[:7], strict=True)
    ]
    chance = run(advising, random_answers, order(advising, "double", is_trained=True)).advice
    assert chance is not None
    assert chance.of(Choice.TRAIN).exact.value < 0.1  # type: ignore[union-attr]


def test_few_examples_are_scored_without_a_recommendation_and_finetunes_are_looked_for(advising: App) -> None:
    found = run(advising, copying_models.examples("swap", 12, seed=9), order(advising)).advice
    assert found is not None
    assert found.recommended is None
    assert found.of(Choice.REUSE) is None
    assert found.note, "no version is embedded here"


def test_a_base_that_is_away_is_a_stated_failure(advising: App) -> None:
    row = run(advising, copying_models.examples("swap", 12, seed=9), order(advising, "swap"), base="acme/gone")
    assert row.state is AskedState.FAILED
    assert "gone is not a folder" in row.reason
    assert row.hint


def test_a_request_is_submitted_once_and_fails_with_its_run(advising: App) -> None:
    advising.scheduler.deploy()
    examples = copying_models.examples("swap", 12, seed=9)
    wanted = order(advising, "swap")
    request_id = advising.database.run(lambda tx: ask(tx, ADA, advising.settings, BASE, examples, wanted))
    assert [submit.submit_asked(advising) for _ in range(2)] == [1, 0]
    with advising.database.transaction() as tx:
        [run_id] = ADVICE.under_way(tx, advising.registry.name).values()
        assert advice.begin(tx, request_id, flow_run_id=run_id) == tuple(examples)
    advising.scheduler.crash(run_id, "killed")
    submit.submit_asked(advising)
    row = advising.database.run(lambda tx: reads.get(tx, ADA, advising.settings, request_id))
    assert (row.state, row.reason) == (AskedState.FAILED, "its flow run died")
