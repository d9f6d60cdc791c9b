"""Specifications of the stack's services. They listen on loopback and keep all files in one data folder."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, SecretStr

from deltadex.errors import StackError
from deltadex.settings import PREFIX, Settings
from deltadex.stack.ports import free_port
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.stack.process import ServiceSpec, environment, http_check, private_folder

_HOST = "127.0.0.1"
#: Credentials for MLflow and artifact stores, which only watcher and worker use.
_CREDENTIALS = ("MLFLOW_TRACKING_", "AWS_", "AZURE_", "GOOGLE_", "HF_TOKEN", "HUGGING", "PREFECT_API_AUTH")


def postgres(settings: Settings, server: EmbeddedPostgres) -> ServiceSpec:
    """Return the specification of Postgres with pgvector."""
    return ServiceSpec(
        "Postgres",
        tuple(server.command()),
        _without_credentials(environment(settings.data_dir)),
        server.is_ready,
        server.port,
        stop_signal=server.STOP_SIGNAL,
    )


def mlflow_server(settings: Settings) -> ServiceSpec:
    """Return the specification of MLflow on SQLite with local artifacts; its webhooks may call loopback."""
    port = free_port(settings.ports.mlflow)
    home = private_folder(settings.data_dir / "mlflow")
    url = f"http://{_HOST}:{port}"
    argv = ("mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1",
            "--app-name", "deltadex", "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
            "--artifacts-destination", str(home / "artifacts"))  # fmt: skip
    env = environment(
        settings.data_dir,
        MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http,https",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true",
        MLFLOW_WEBHOOK_CACHE_TTL="1",
        # Without a fixed key, MLflow creates a new one at each start and can't decrypt its stored webhooks.
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=secret_file(home / "webhook.key"),
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    # Our pages under /deltadex/ read the rest from the data folder, as it is then.
    given = {"DELTADEX_DATA_DIR", "DELTADEX_DATABASE__URL", *os.environ}
    ours = {name: value for name, value in _as_variables(settings).items() if name in given}
    env = _without_credentials(env) | ours
    return ServiceSpec("MLflow", _module(*argv), env, http_check(f"{url}/health"), port, url)


def prefect_server(settings: Settings) -> ServiceSpec:
    """Return the specification of Prefect on SQLite; the embedded Postgres lacks pg_trgm, which Prefect needs."""
    port = free_port(settings.ports.prefect)
    url = f"http://{_HOST}:{port}"
    argv = _module("prefect", "server", "start", "--host", _HOST, "--port", str(port))
    env = _without_credentials(_prefect_env(settings, f"{url}/api")) | {
        # Without a password, any process and any web page on this machine could have the worker run its flows.
        "PREFECT_SERVER_API_AUTH_STRING": prefect_auth(settings),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
    }
    return ServiceSpec("Prefect", argv, env, http_check(f"{url}/api/health"), port, url)


def prefect_auth(settings: Settings) -> str:
    """Return `user:password` of the stack's own Prefect server."""
    return f"deltadex:{secret_file(settings.data_dir / 'prefect.auth')}"


def worker(settings: Settings) -> ServiceSpec:
    """Return the specification of the Prefect worker, which polls for runs every second."""
    port = free_port(0)
    env = _prefect_env(settings, settings.prefect_url) | {
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_PREFETCH_SECONDS": "2",
        "PREFECT_WORKER_WEBSERVER_HOST": _HOST,
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    argv = _module("prefect", "worker", "start", "--type", "deltadex", "--pool", settings.work_pool,
                   "--limit", str(settings.embedding.workers), "--with-healthcheck")  # fmt: skip
    env |= _as_variables(settings, "DELTADEX_ARTIFACT_KEY", "DELTADEX_PREFECT_AUTH")
    return ServiceSpec("worker", argv, env, http_check(f"http://{_HOST}:{port}/health"), port)


def watcher(settings: Settings) -> ServiceSpec:
    """Return the specification of `deltadex watch`."""
    health = http_check(f"http://{settings.webhook.host}:{settings.webhook.port}/health")
    env = _prefect_env(settings, settings.prefect_url)
    env |= _as_variables(
        settings, "DELTADEX_WEBHOOK__SECRET", "DELTADEX_NOTIFY__CHANNELS", "DELTADEX_PREFECT_AUTH", "DELTADEX_WITNESSES"
    )
    return ServiceSpec("watcher", _module("deltadex", "watch"), env, health, settings.webhook.port)


#: The dashboard signs the evidence packs that it offers.
_EVIDENCE_SECRETS = (
    "DELTADEX_EVIDENCE__KEY",
    "DELTADEX_EVIDENCE__KEY_PASSWORD",
    "DELTADEX_EVIDENCE__PKCS11_URI",
    "DELTADEX_EVIDENCE__PSEUDONYM_KEY",
)


def dashboard(settings: Settings) -> ServiceSpec:
    """Return the specification of the dashboard (Streamlit).

    Raises
    ------
    StackError
        The dashboard is not installed.
    """
    package = importlib.util.find_spec("deltadex_dashboard")
    if package is None or importlib.util.find_spec("streamlit") is None:
        raise StackError("The dashboard is not installed", hint="Install deltadex[dashboard].")
    app = Path(next(iter(package.submodule_search_locations or ()))) / "app.py"
    port = free_port(settings.ports.dashboard)
    url = f"http://{_HOST}:{port}"
    argv = _module("streamlit", "run", str(app), "--server.address", _HOST, "--server.port", str(port),
                   "--server.headless", "true", "--browser.gatherUsageStats", "false",
                   "--server.fileWatcherType", "none")  # fmt: skip
    return ServiceSpec(
        "dashboard",
        argv,
        _without_credentials(environment(settings.data_dir)) | _as_variables(settings, *_EVIDENCE_SECRETS),
        http_check(f"{url}/_stcore/health"),
        port,
        url,
    )


def secret_file(path: Path) -> str:
    """Return the random key in this file, which is created on first use and readable by this user only.

    It is 32 bytes in URL-safe base64, as Fernet wants its keys.
    """
    if not path.exists():
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(base64.urlsafe_b64encode(secrets.token_bytes(32)))
    return path.read_text()


def _module(*argv: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *argv)


def _prefect_env(settings: Settings, api_url: str) -> dict[str, str]:
    auth = {"PREFECT_API_AUTH_STRING": settings.prefect_auth.get_secret_value()} if settings.prefect_auth else {}
    home = private_folder(settings.data_dir / "prefect")
    return environment(settings.data_dir, PREFECT_HOME=str(home), PREFECT_API_URL=api_url, **auth)


def _as_variables(settings: Settings, *secrets: str) -> dict[str, str]:
    """Return the settings as environment variables of a child process, without secrets but its login and these."""
    variables: dict[str, object] = {}
    for name, value in settings:
        if isinstance(value, BaseModel):
            variables |= {f"{PREFIX}{name}__{key}".upper(): inner for key, inner in value}
        else:
            variables[f"{PREFIX}{name}".upper()] = value
    own = {"DELTADEX_DATABASE__URL", *secrets}
    return {
        name: _plain(value)
        for name, value in variables.items()
        if value is not None and (name in own or not _is_secret(value))
    }


def _is_secret(value: object) -> bool:
    if isinstance(value, dict | tuple):
        return any(map(_is_secret, value.values() if isinstance(value, dict) else value))
    return isinstance(value, SecretStr)


def _plain(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict | tuple):
        return json.dumps(value, default=_json)
    return str(value)


def _json(value: SecretStr | BaseModel | Path) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return _plain(value)


def _without_credentials(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(_CREDENTIALS)}
