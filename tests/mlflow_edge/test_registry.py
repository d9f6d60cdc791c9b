"""Reading and writing a real MLflow server."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import mlflow
import numpy as np
import pytest

from deltadex.domain import Embedding, Recipe, State
from deltadex.errors import RegistryError
from deltadex.mlflow_edge.registry import Registry
from deltadex.mlflow_edge.write_back import log_embedding, tag_embedded, tag_not_embedded
from deltadex.probes import DELTA_ACTIVATION
from tests.registering import register_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files" / "inner").mkdir(parents=True)
    (tmp_path / "files" / "config.json").write_text("{}")
    (tmp_path / "files" / "inner" / "weights").write_bytes(bytes(1000))
    return tmp_path / "files"


def embedding() -> Embedding:
    return Embedding(Recipe(DELTA_ACTIVATION, "b", 4), np.ones((5, 4), np.float32), 2.0, "w")


def test_versions_come_newest_first_with_what_the_registry_knows(registry: Registry, folder: Path) -> None:
    made = [register_folder(registry, name, folder, team=name) for name in ("one", "two", "one")]
    listed = list(registry.newest_first())
    assert {version.ref for version in listed} == {version.ref for version in made}
    times = [version.ref.created_ms for version in listed]
    assert times == sorted(times, reverse=True)
    assert listed[0].run_id == made[-1].run_id
    assert dict(made[0].tags) == {"team": "one"}


def test_prompts_are_no_models(registry: Registry) -> None:
    mlflow.set_registry_uri(registry.tracking_uri)
    mlflow.set_tracking_uri(registry.tracking_uri)
    mlflow.genai.register_prompt("greeting", "Hello {{name}}")
    assert list(islice(registry.newest_first(), 1)) == []


def test_aliases_are_read_per_model(registry: Registry, folder: Path) -> None:
    for _ in range(2):
        register_folder(registry, "one", folder)
    registry.client.set_registered_model_alias("one", "champion", "2")
    registry.client.set_registered_model_alias("one", "best", "2")
    assert registry.aliases("one") == {2: ("best", "champion")}


def test_a_missing_version_reads_as_none(registry: Registry) -> None:
    assert registry.read("nothing", 1) is None


def test_an_embedding_is_logged_to_the_versions_run_and_tagged(registry: Registry, folder: Path) -> None:
    version = register_folder(registry, "one", folder)
    uri = log_embedding(registry, version, embedding(), folder=folder)
    assert version.run_id is not None
    logged = registry.client.list_artifacts(version.run_id, uri.split("/artifacts/")[1])
    assert {Path(entry.path).name for entry in logged} == {"config.json", "inner"}
    tag_not_embedded(registry, version, State.FAILED, reason="once")
    failed = registry.read("one", 1)
    assert failed is not None
    tag_embedded(registry, failed, embedding(), artifact_uri=uri, link="http://dashboard.example/model?model=one")
    tagged = registry.read("one", 1)
    assert tagged is not None
    assert tagged.tags["deltadex.state"] == "embedded"
    assert tagged.tags["deltadex.artifact"] == uri
    assert tagged.tags["deltadex.dashboard"] == "http://dashboard.example/model?model=one"
    assert "deltadex.reason" not in tagged.tags


@pytest.mark.parametrize("loss", ["no run", "deleted run"])
def test_a_version_without_a_usable_run_gets_one_run_of_ours(registry: Registry, folder: Path, loss: str) -> None:
    version = register_folder(registry, "one", folder)
    if loss == "no run":
        version = replace(version, run_id=None)
    else:
        registry.client.delete_run(version.run_id or "")
    uris = {log_embedding(registry, version, embedding(), folder=folder) for _ in range(2)}
    assert len(uris) == 1
    assert version.run_id is None or version.run_id not in uris.pop()


def test_a_server_that_is_away_is_a_retryable_error_with_a_hint() -> None:
    with pytest.raises(RegistryError) as caught:
        Registry("http://127.0.0.1:9", name="acme").check()
    assert caught.value.retryable
    assert "deltadex doctor" in caught.value.hint
