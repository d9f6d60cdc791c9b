"""Reads from and writes to a real MLflow server."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import mlflow
import numpy as np
import pytest

from deltadex.engine.probes import PUBLISHED
from deltadex.errors import DeltadexError, RegistryError, Shortage
from deltadex.registry.artifacts import ArtifactSource
from deltadex.registry.client import Registry
from deltadex.registry.connection import store_errors
from deltadex.registry.run_artifact import log_embedding
from deltadex.registry.tags import tag_embedded, tag_not_embedded
from deltadex.types import Embedding, Recipe, State
from tests.registering import register_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files" / "inner").mkdir(parents=True)
    (tmp_path / "files" / "config.json").write_text("{}")
    (tmp_path / "files" / "inner" / "weights").write_bytes(bytes(1000))
    return tmp_path / "files"


def embedding() -> Embedding:
    return Embedding(Recipe(PUBLISHED, "b", 4), np.ones((5, 4), np.float32), 2.0, "w")


def test_versions_come_newest_first_with_what_the_registry_knows(registry: Registry, folder: Path) -> None:
    made = [register_folder(registry, name, folder, team=name) for name in ("one", "two", "one")]
    listed = list(registry.newest_first())
    assert {version.ref for version in listed} == {version.ref for version in made}
    times = [version.ref.created_ms for version in listed]
    assert times == sorted(times, reverse=True)
    assert listed[0].run_id == made[-1].run_id
    assert dict(made[0].tags) == {"team": "one"}


def test_prompts_are_not_listed_as_models(registry: Registry) -> None:
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


@pytest.mark.parametrize("name", ["#1 model", "what?", "o'brien", 'a "quoted" one', "50% off", "a+b&c=d"])
@pytest.mark.parametrize("has_run", [True, False])
def test_an_embedding_of_a_model_of_any_name_can_be_fetched(
    registry: Registry, folder: Path, tmp_path: Path, name: str, has_run: bool
) -> None:
    registry.client.create_registered_model(name)
    version = register_folder(registry, "plain", folder)
    made = registry.client.create_model_version(name, version.source, run_id=version.run_id)
    named = registry.read(name, int(made.version))
    assert named is not None
    named = named if has_run else replace(named, run_id=None)
    uris = {log_embedding(registry, named, embedding(), folder=folder) for _ in range(2)}
    assert len(uris) == 1
    fetched = mlflow.artifacts.download_artifacts(
        artifact_uri=uris.pop(), dst_path=str(tmp_path / "fetched"), tracking_uri=registry.tracking_uri
    )
    assert (Path(fetched) / "config.json").read_text() == "{}"


def test_names_that_look_alike_as_paths_are_kept_apart(registry: Registry, folder: Path) -> None:
    version = register_folder(registry, "plain", folder)
    named = (replace(version, ref=replace(version.ref, name=name)) for name in ("a#b", "a?b", "a_b"))
    assert len({log_embedding(registry, one, embedding(), folder=folder) for one in named}) == 3


def test_our_experiment_is_restored_where_it_was_deleted(registry: Registry, folder: Path) -> None:
    version = replace(register_folder(registry, "one", folder), run_id=None)
    client = registry.client
    ours = client.get_experiment_by_name("deltadex")
    client.delete_experiment(ours.experiment_id if ours else client.create_experiment("deltadex"))
    assert log_embedding(registry, version, embedding(), folder=folder)
    restored = client.get_experiment_by_name("deltadex")
    assert restored is not None
    assert restored.lifecycle_stage == "active"


def test_the_aliases_of_a_model_that_was_deleted_meanwhile_are_none(registry: Registry) -> None:
    assert registry.aliases("gone") == {}


@pytest.mark.parametrize("source", ["hf:/acme/base", "dbfs:/databricks/model"])
def test_a_store_that_no_retry_will_open_is_no_transient_error(registry: Registry, source: str) -> None:
    with pytest.raises(DeltadexError) as caught:
        ArtifactSource(registry, source, where="in/1").listing()
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("error", "kind", "is_retried"),
    [
        (ValueError("default auth: cannot configure default credentials"), Shortage, False),
        (ValueError("no such container"), RegistryError, False),
        (RuntimeError("broken pipe"), RegistryError, True),
    ],
)
def test_errors_of_a_store_s_own_client_are_no_bug_of_ours(
    error: Exception, kind: type[RegistryError | Shortage], is_retried: bool
) -> None:
    with pytest.raises(kind, match=str(error)) as caught, store_errors("listing"):
        raise error
    assert caught.value.retryable == is_retried
    assert caught.value.hint


def test_a_store_whose_package_is_missing_is_named(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("boto3", "botocore"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(RegistryError, match=r"the Python package (boto3|botocore) is missing") as caught:
        ArtifactSource(registry, "s3://bucket/model", where="in-s3/1").listing()
    assert not caught.value.retryable
    assert "boto3" in caught.value.hint


def test_an_unreachable_server_is_a_retryable_error_with_a_hint() -> None:
    with pytest.raises(RegistryError) as caught:
        Registry("http://127.0.0.1:9", name="acme").check()
    assert caught.value.retryable
    assert "deltadex doctor" in caught.value.hint


def test_a_certificate_that_is_not_trusted_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*new, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RegistryError, match="certificate is not trusted") as caught:
            Registry(f"https://127.0.0.1:{server.server_port}", name="acme").read("one", 1)
        server.shutdown()
    assert not caught.value.retryable
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint
