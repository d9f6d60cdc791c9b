"""The answers of the pages inside MLflow, with the rights of the person who asks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow.utils.workspace_context import ServerWorkspaceContext

from deltadex.errors import AccessDenied
from deltadex.mlflow_plugin.answers import StoreAnswers
from deltadex.mlflow_plugin.identities import Caller
from deltadex.reviews import actions as reviews
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.stored import REGISTRY, discovered, embedded, grouped

ADA, EVE = Caller("ada"), Caller("eve")


@pytest.fixture
def answers(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreAnswers:
    """Answers about two versions that are near duplicates; Eve sees one of the models, Ada all."""
    with database.transaction() as tx:
        older = embedded(tx, "payroll", np.array([1.0, 0.1]))
        newer = embedded(tx, "sql-writer", np.array([1.0, 0.0]), tags={"team": "search", "domain": "sql"})
        grouped(tx, [older, newer], 0.995)
        discovered(tx, "sql-writer", version=2)
        reviews.follow(tx, Settings(registry=REGISTRY))
    people = {"ada": {"role": "viewer"}, "eve": {"role": "viewer", "models": ["sql-*"]}}
    file = tmp_path / "people.json"
    file.write_text(json.dumps({"people": people}))
    monkeypatch.setenv("DELTADEX_ACCESS__FILE", str(file))
    monkeypatch.setenv("DELTADEX_DATABASE__URL", database.url)
    monkeypatch.setenv("DELTADEX_REGISTRY", REGISTRY)
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(tmp_path))
    return StoreAnswers()


def test_a_model_is_listed_with_the_open_findings_of_its_newest_matching_version(answers: StoreAnswers) -> None:
    def listed(search: str) -> list[tuple[str, int, str, int]]:
        found = answers.models(search, 1, ADA)["models"]
        return [(one["name"], one["version"], one["state"], one["open_findings"]) for one in found]

    assert listed("sql") == [("sql-writer", 2, "discovered", 0)]
    assert listed("team:search") == [("sql-writer", 1, "embedded", 1)]
    assert len(listed("")) == 2


def test_hidden_models_are_neither_listed_nor_counted(answers: StoreAnswers) -> None:
    found = answers.models("", 1, EVE)
    assert found["summary"] == "1 registered model with 2 versions"
    assert "payroll" not in str(found)
    assert answers.version("payroll", 1, EVE) is None
    assert "payroll" not in str(answers.version("sql-writer", 1, EVE))


def test_who_is_not_listed_reads_nothing(answers: StoreAnswers) -> None:
    with pytest.raises(AccessDenied):
        answers.models("", 1, None)
    with pytest.raises(AccessDenied):
        answers.version("sql-writer", 1, Caller("mallory", is_admin=True))


def test_groups_that_the_app_knows_count_as_at_the_dashboard(answers: StoreAnswers, tmp_path: Path) -> None:
    groups = {"support": {"role": "viewer", "models": ["pay*"]}}
    (tmp_path / "people.json").write_text(json.dumps({"groups": groups}))
    assert [one["name"] for one in answers.models("", 1, Caller("zoe", ("sales", "support")))["models"]] == ["payroll"]
    with pytest.raises(AccessDenied):
        answers.models("", 1, Caller("zoe", ("sales",)))


def test_without_an_access_file_only_admins_of_the_app_and_a_server_without_logins_read(
    answers: StoreAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DELTADEX_ACCESS__FILE")
    for caller in (None, Caller("root", is_admin=True)):
        assert len(answers.models("", 1, caller)["models"]) == 2
    with pytest.raises(AccessDenied) as caught:
        answers.models("", 1, Caller("zoe"))
    assert "DELTADEX_ACCESS__FILE" in caught.value.hint


def test_a_request_of_a_workspace_reads_nothing_of_another(
    answers: StoreAnswers, database: Database, tmp_path: Path
) -> None:
    with database.transaction() as tx:
        discovered(tx, "contract-drafter", registry=f"{REGISTRY}/legal")
    people = {"ada": {"role": "viewer", "workspaces": ["legal"]}, "eve": {"role": "viewer", "workspaces": ["default"]}}
    (tmp_path / "people.json").write_text(json.dumps({"people": people}))
    with ServerWorkspaceContext("legal"):
        assert [one["name"] for one in answers.models("", 1, ADA)["models"]] == ["contract-drafter"]
        assert answers.version("payroll", 1, ADA) is None
        with pytest.raises(AccessDenied):
            answers.models("", 1, EVE)
    assert answers.version("contract-drafter", 1, EVE) is None
    assert answers.version("payroll", 1, EVE) is not None
    with pytest.raises(AccessDenied):
        answers.models("", 1, ADA)
