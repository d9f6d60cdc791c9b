"""The answers of the pages inside MLflow, with the rights of the person who asks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deltadex.errors import AccessDenied
from deltadex.mlflow_plugin.answers import StoreAnswers
from deltadex.reviews import actions as reviews
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.stored import REGISTRY, discovered, embedded, grouped


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
        found = answers.models(search, 1, "ada")["models"]
        return [(one["name"], one["version"], one["state"], one["open_findings"]) for one in found]

    assert listed("sql") == [("sql-writer", 2, "discovered", 0)]
    assert listed("team:search") == [("sql-writer", 1, "embedded", 1)]
    assert len(listed("")) == 2


def test_hidden_models_are_neither_listed_nor_counted(answers: StoreAnswers) -> None:
    found = answers.models("", 1, "eve")
    assert found["summary"] == "1 registered model with 2 versions"
    assert "payroll" not in str(found)
    assert answers.version("payroll", 1, "eve") is None
    assert "payroll" not in str(answers.version("sql-writer", 1, "eve"))


def test_who_is_not_listed_reads_nothing(answers: StoreAnswers) -> None:
    with pytest.raises(AccessDenied):
        answers.models("", 1, None)
    with pytest.raises(AccessDenied):
        answers.version("sql-writer", 1, "mallory")
