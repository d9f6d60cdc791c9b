"""Prompts that runs logged as tables, on a real MLflow server."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from deltadex.errors import RegistryError, UnsupportedCheckpoint
from deltadex.registry.client import Registry
from deltadex.registry.evaluation_table import LoggedPrompts, logged_prompts
from deltadex.types import RegisteredVersion
from tests.stored import registered


@pytest.fixture
def version(registry: Registry) -> RegisteredVersion:
    return registered(run_id=registry.client.create_run("0").info.run_id)


def log(registry: Registry, version: RegisteredVersion, path: str, **columns: list[object]) -> None:
    registry.client.log_table(version.run_id, pd.DataFrame(columns), path)


# MLflow 3.17 calls pandas in a way that pandas 3 deprecates.
@pytest.mark.filterwarnings("ignore:For backward compatibility")
def test_the_latest_table_with_prompts_is_read(registry: Registry, version: RegisteredVersion) -> None:
    log(registry, version, "old.json", prompt=["x"])
    log(registry, version, "eval/eval_results_table.json", inputs=["What is due?", "Écris."], outputs=["a", "b"])
    log(registry, version, "scores.json", score=[1.0])
    assert logged_prompts(registry, version) == LoggedPrompts(
        "eval/eval_results_table.json", ("What is due?", "Écris.")
    )


@pytest.mark.filterwarnings("ignore:For backward compatibility")
def test_a_run_without_prompts_says_how_to_log_some(registry: Registry, version: RegisteredVersion) -> None:
    log(registry, version, "scores.json", score=[1.0])
    with pytest.raises(RegistryError, match="The run of support/1 has no table of prompts") as none:
        logged_prompts(registry, version)
    assert "mlflow.log_table" in none.value.hint
    with pytest.raises(RegistryError, match="has no run"):
        logged_prompts(registry, registered(run_id=None))


@pytest.mark.parametrize(
    "tag", ["{", "5", "[1]", '[{"type": "table"}]', '[{"type": "table", "path": "../../x.json"}]', "[" * 20]
)
def test_a_hostile_tag_names_no_table(registry: Registry, version: RegisteredVersion, tag: str) -> None:
    registry.client.set_tag(version.run_id, "mlflow.loggedArtifacts", tag)
    with pytest.raises(RegistryError):
        logged_prompts(registry, version)


@pytest.mark.parametrize("table", [[], {"columns": "inputs", "data": 1}, {"columns": ["inputs"], "data": [5, []]}])
def test_a_table_in_another_format_is_none(registry: Registry, version: RegisteredVersion, table: object) -> None:
    registry.client.log_text(version.run_id, json.dumps(table), "odd.json")
    registry.client.set_tag(version.run_id, "mlflow.loggedArtifacts", '[{"type": "table", "path": "odd.json"}]')
    with pytest.raises(RegistryError, match="no table of prompts"):
        logged_prompts(registry, version)


def test_artifacts_outside_of_what_deltadex_reads_are_refused(registry: Registry) -> None:
    experiment = registry.client.create_experiment("elsewhere", artifact_location="file:///root/secrets")
    run = registry.client.create_run(experiment)
    with pytest.raises(UnsupportedCheckpoint, match="outside the artifact stores"):
        logged_prompts(registry, registered(run_id=run.info.run_id))
    registry.client.delete_experiment(experiment)
