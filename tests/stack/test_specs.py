"""Commands and environments of the stack's child processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deltadex.setting_groups import Login
from deltadex.settings import Settings, load_settings
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.stack.process import ServiceSpec
from deltadex.stack.specs import dashboard, mlflow_server, postgres, prefect_server, watcher, worker
from deltadex.stack.supervisor import acting_as


def test_the_children_read_the_settings_that_the_stack_runs_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        data_dir=tmp_path,
        tracking_uri="http://127.0.0.1:5000",
        prefect_api_url="http://127.0.0.1:4200/api",
        bases={"acme/base": "models:/base/1"},
        database={"url": "postgresql://me:secret@127.0.0.1:5432/x"},
        webhook={"secret": "s3cret", "port": 7000},
        notify={"channels": {"ops": "json://hook"}, "rules": [{"name": "all", "channel": "ops"}]},
        artifact_key="k" * 32,
        witnesses=["git+https://ada:pw@host/heads"],
        thresholds={"drift_distance": 0.25},
    )
    for spec, own in ((watcher(settings), {"webhook", "notify", "witnesses"}), (worker(settings), {"artifact_key"})):
        with monkeypatch.context() as environment:
            for name, value in spec.env.items():
                environment.setenv(name, value)
            read = load_settings()
        others = {"webhook", "notify", "artifact_key", "witnesses"} - own
        assert read.model_dump(exclude=others) == settings.model_dump(exclude=others)
        assert (read.webhook.port, read.notify.rules) == (7000, settings.notify.rules)


SECRETS = {
    "writer": "pw-writer", "reader": "pw-reader", "dashboard": "pw-dashboard", "owner": "pw-owner",
    "webhook": "pw-webhook", "channel": "pw-channel", "key": "pw-key" * 8, "aws": "pw-aws", "mlflow": "pw-mlflow",
    "prefect": "pw-prefect", "witness": "pw-witness", "evidence": "pw-evidence",
}  # fmt: skip


@pytest.fixture
def everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a stack whose environment has every secret that there is."""
    monkeypatch.setenv("DELTADEX_DATABASE__URL", f"postgresql://o:{SECRETS['owner']}@h/d")
    for login in ("writer", "reader", "dashboard"):
        monkeypatch.setenv(f"DELTADEX_DATABASE__{login.upper()}_URL", f"postgresql://{login}:{SECRETS[login]}@h/d")
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("DELTADEX_WEBHOOK__SECRET", SECRETS["webhook"])
    monkeypatch.setenv("DELTADEX_NOTIFY__CHANNELS", json.dumps({"ops": f"json://{SECRETS['channel']}"}))
    monkeypatch.setenv("DELTADEX_WITNESSES", json.dumps([f"git+https://ada:{SECRETS['witness']}@host/heads"]))
    monkeypatch.setenv("DELTADEX_ARTIFACT_KEY", SECRETS["key"])
    monkeypatch.setenv("DELTADEX_EVIDENCE__KEY", SECRETS["evidence"])
    for name in ("DELTADEX_PREFECT_AUTH", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, f"deltadex:{SECRETS['prefect']}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["aws"])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRETS["mlflow"])
    return load_settings()


@pytest.mark.parametrize(
    ("spec", "login", "own"),
    [
        (worker, "writer", {"writer", "key", "aws", "mlflow", "prefect"}),
        (watcher, "writer", {"writer", "webhook", "channel", "aws", "mlflow", "prefect", "witness"}),
        (dashboard, "dashboard", {"dashboard", "evidence"}),
        (mlflow_server, "reader", {"reader"}),
        (prefect_server, "reader", set()),
    ],
)
def test_each_child_has_its_own_secrets_and_no_others(
    everything: Settings, spec: Callable[[Settings], ServiceSpec], login: Login, own: set[str]
) -> None:
    environment = spec(acting_as(login, everything)).env
    assert {name for name, secret in SECRETS.items() if secret in repr(dict(environment))} == own


def test_postgres_has_no_secret(everything: Settings, tmp_path: Path) -> None:
    environment = postgres(everything, EmbeddedPostgres(tmp_path, 1)).env
    assert "pw-" not in repr(dict(environment))


def test_children_keep_temporary_files_in_the_data_folder_where_only_its_owner_can_write(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, tracking_uri="http://x", prefect_api_url="http://x/api")
    specs = [mlflow_server(settings), prefect_server(settings), worker(settings), watcher(settings)]
    for spec in specs:
        temporary = Path(spec.env["TMPDIR"])
        assert temporary.is_relative_to(tmp_path)
        assert temporary.stat().st_mode & 0o077 == 0


def test_no_child_sends_telemetry(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, tracking_uri="http://x", prefect_api_url="http://x/api")
    quiet = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    assert quiet.items() <= worker(settings).env.items()


def test_the_databases_of_mlflow_and_prefect_are_read_by_their_user_only(servers: Settings) -> None:
    databases = [servers.data_dir / "mlflow" / "mlflow.db", servers.data_dir / "prefect" / "prefect.db"]
    for path in (*databases, servers.data_dir / "prefect.auth"):
        assert path.stat().st_mode & 0o077 == 0
    for folder in {path.parent for path in databases}:
        assert folder.stat().st_mode & 0o077 == 0
