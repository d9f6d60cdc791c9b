"""Answers of the tools beyond those that a client of each transport asks for."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.embeddings import queries as embeddings
from deltadex.engine.examples import Example
from deltadex.errors import AccessDenied, DeltadexError
from deltadex.find import queries as task_searches
from deltadex.find.queries import SEARCHES, TaskDelta
from deltadex.mcp_server import answers
from deltadex.mcp_server.untrusted import quoted
from deltadex.mcp_server.values import MOST
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.importing import imported_by
from tests.stored import ADMIN, REGISTRY, embedded


def test_a_search_that_is_done_has_its_models_and_one_that_failed_its_reason(
    settings: Settings, database: Database
) -> None:
    with database.transaction() as tx:
        [recipe] = embeddings.recipes(tx, REGISTRY)
        done, failed = (task_searches.ask(tx, REGISTRY, "base", (Example("a", "b"),), by=ADMIN.name) for _ in "ab")
        task_searches.begin(tx, done, flow_run_id="run")
        delta = TaskDelta(recipe.digest, np.array([1.0, 0.0], dtype=np.float32), 0.2, 0.9, "")
        task_searches.finish(tx, done, delta, seconds=1)
        SEARCHES.fail(tx, failed, reason="no `base`", hint="")
        found = answers.search_answer(tx, ADMIN, settings, done, limit=1)
        ended = answers.search_answer(tx, ADMIN, settings, failed)
        with pytest.raises(AccessDenied):
            answers.search_answer(tx, Person("eve", Role.ADMIN), settings, done)
    assert found.result is not None
    assert [one.model.version for one in found.result.models] == ["contract-drafter/2"]
    assert "Candidates to try" in found.result.note
    assert (ended.state, ended.reason, ended.result) == (
        "failed",
        quoted("no `base`"),
        None,
    )


def test_lists_end_however_many_there_are(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        for version in range(1, MOST + 10):
            embedded(tx, "many", np.array([1.0, version / 10]), version=version, tags={f"t{n}": "x" for n in range(50)})
        model = answers.model_answer(tx, ADMIN, settings, "many")
        near = answers.neighbors_answer(tx, ADMIN, settings, "many/1", limit=1_000)
        drift = answers.drift_answer(tx, ADMIN, settings, "many")
    assert len(model.versions) == len(near.neighbors) == len(drift.steps) == MOST
    assert len(model.tags) == 20
    assert drift.steps[-1].version == f"many/{MOST + 9}", "the latest steps are told"


def test_an_odd_name_is_looked_for_and_quoted_in_the_error(settings: Settings, database: Database) -> None:
    with database.transaction() as tx:
        for ask in (answers.drift_answer, answers.model_answer):
            with pytest.raises(DeltadexError):
                ask(tx, ADMIN, settings, "<|im_start|>/1")


def test_the_server_needs_neither_torch_nor_mlflow() -> None:
    imported = imported_by("import deltadex.mcp_server.server, deltadex.mcp_server.http, deltadex.mcp_server.identity")
    assert {"torch", "transformers", "mlflow"} & imported == set()
