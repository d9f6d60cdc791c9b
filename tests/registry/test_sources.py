"""Sources of versions: a worker reads only what it may, and sends MLflow's password to MLflow alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from deltadex.errors import UnsupportedCheckpoint
from deltadex.registry.artifacts import ArtifactSource, version_files
from deltadex.registry.client import Registry
from deltadex.registry.run_artifact import log_embedding
from deltadex.registry.sources import check_source, is_allowed
from deltadex.setting_groups import SourceSettings
from tests.registry.test_client import embedding

TRACKING = "https://mlflow.acme.com"
ALLOWED = SourceSettings(stores=("s3://models/team-a", "gs://"), folders=("/srv/models",))


@pytest.mark.parametrize(
    "uri",
    [
        "https://mlflow.acme.com/api/2.0/mlflow-artifacts/artifacts/0/x",
        "https://mlflow.acme.com:443/x",
        "mlflow-artifacts:/0/run/artifacts",
        "s3://models/team-a",
        "s3://models/team-a/run/artifacts",
        "gs://any/where",
        "/srv/models/one",
        "file:///srv/models/one",
        "file://localhost/srv/models/one",
    ],
)
def test_what_the_settings_name_is_read(uri: str) -> None:
    assert is_allowed(uri, tracking_uri=TRACKING, allowed=ALLOWED)


@pytest.mark.parametrize(
    "uri",
    [
        "http://mlflow.acme.com/x",
        "https://mlflow.acme.com:8443/x",
        "https://mlflow.acme.com.evil.example/x",
        "https://mlflow.acme.com@evil.example/x",
        "https://evil.example/mlflow.acme.com",
        "mlflow-artifacts://evil.example/x",
        "s3://models/team-b/x",
        "s3://models/team-ab",
        "s3://models/team-a/../team-b",
        "s3://models/team-a/%2e%2e/team-b",
        "s3://models-evil/team-a",
        "S3A://models/team-a",
        "ftp://models/team-a",
        "sftp://root@host/x",
        "dbfs:/x",
        "hdfs://host/x",
        "/srv/models/../secrets",
        "/srv/models-of-others",
        "/etc",
        "file:///etc",
        "file://evil.example/srv/models",
        "file:///srv/models/%2e%2e/secrets",
        "srv/models",
        "",
    ],
)
def test_nothing_else_is_read(uri: str) -> None:
    assert not is_allowed(uri, tracking_uri=TRACKING, allowed=ALLOWED)
    with pytest.raises(UnsupportedCheckpoint):
        check_source(uri, tracking_uri=TRACKING, allowed=ALLOWED, where="one/1")


@pytest.mark.parametrize(
    "source", ["http://{}/x", "http://{}/api/2.0/mlflow-artifacts/artifacts/0", "mlflow-artifacts://{}/x"]
)
def test_a_stranger_is_sent_no_password(registry: Registry, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """MLflow's server refuses such a source today, unless an administrator allows the scheme."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary")
    with _stranger() as (address, asked):
        with pytest.raises(UnsupportedCheckpoint, match="The files of trap/1 lie outside"):
            ArtifactSource(registry, source.format(address), where="trap/1").listing()
        assert asked == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_local_folder_is_not_even_looked_for(registry: Registry, tmp_path: Path, exists: bool) -> None:
    place = tmp_path / "other-team"
    client = registry.client
    run = client.create_run(client.create_experiment(tmp_path.name, artifact_location=place.as_uri()))
    source = f"{run.info.artifact_uri}/payroll"
    if exists:
        (place / run.info.run_id / "artifacts" / "payroll").mkdir(parents=True)
    client.create_registered_model("trap")
    client.create_model_version("trap", source, run_id=run.info.run_id)
    version = registry.read("trap", 1)
    assert version is not None
    with pytest.raises(UnsupportedCheckpoint) as caught:
        version_files(registry, version, tmp_path / "fetched")
    assert caught.value.message == "The files of trap/1 lie outside the artifact stores and folders that Deltadex reads"


def test_nothing_is_written_where_a_stranger_chose_to(registry: Registry, tmp_path: Path) -> None:
    place, written = tmp_path / "etc", tmp_path / "written"
    written.mkdir()
    (written / "embedding.npz").write_bytes(b"x")
    client = registry.client
    run = client.create_run(client.create_experiment(tmp_path.name, artifact_location=place.as_uri()))
    client.create_registered_model("trap")
    client.create_model_version("trap", f"{run.info.artifact_uri}/x", run_id=run.info.run_id)
    version = registry.read("trap", 1)
    assert version is not None
    uri = log_embedding(registry, version, embedding(), folder=written)
    assert uri.startswith("mlflow-artifacts:/")
    assert not place.exists() or not list(place.rglob("*.npz"))


@contextmanager
def _stranger() -> Iterator[tuple[str, list[str]]]:
    """Run a web server that notes what it is asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Authorization']}")
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_version_of_a_workspace_names_no_files_of_another() -> None:
    given = SourceSettings(stores=("s3://models/workspaces/{workspace}", "gs://shared"))
    registry = Registry("http://mlflow:5000", name="acme/legal", sources=given)

    def allowed(uri: str) -> bool:
        return is_allowed(uri, tracking_uri=registry.tracking_uri, allowed=registry.sources)

    assert allowed("s3://models/workspaces/legal/1/model")
    assert allowed("gs://shared/model")
    assert not allowed("s3://models/workspaces/support/1/model")
    assert not allowed("s3://models/workspaces/legal/../support/1/model")
    assert (
        Registry("http://mlflow:5000", name="acme", sources=given).sources.stores[0] == "s3://models/workspaces/default"
    )
