"""How each service is run on this machine: on loopback, with its files under one data folder."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import secrets
import sys
from pathlib import Path

from pydantic import BaseModel, SecretStr

from deltadex.errors import StackError
from deltadex.settings import PREFIX, Settings
from deltadex.stack.ports import free_port
from deltadex.stack.process import ServiceSpec, answers, environment
from deltadex.store.embedded import EmbeddedPostgres

_HOST = "127.0.0.1"


def postgres(server: EmbeddedPostgres) -> ServiceSpec:
    """Postgres with pgvector."""
    return ServiceSpec(
        "Postgres", tuple(server.command()), environment(), server.is_ready, stop_signal=server.STOP_SIGNAL
    )


def mlflow_server(settings: Settings) -> ServiceSpec:
    """MLflow on SQLite with local artifacts; its webhooks may call loopback, where our receiver is."""
    port = free_port(settings.ports.mlflow)
    home = settings.data_dir / "mlflow"
    home.mkdir(parents=True, exist_ok=True)
    url = f"http://{_HOST}:{port}"
    argv = ("mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1",
            "--app-name", "deltadex", "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
            "--artifacts-destination", str(home / "artifacts"))  # fmt: skip
    env = environment(
        MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http,https",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true",
        MLFLOW_WEBHOOK_CACHE_TTL="1",
        # Without one, MLflow makes a new key at each start and can no longer read its own webhooks.
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=_kept_key(home / "webhook.key"),
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        # For its pages under /deltadex/: the addresses of the other services are in that folder once they are up.
        DELTADEX_DATA_DIR=str(settings.data_dir),
    )
    return ServiceSpec("MLflow", _module(*argv), env, answers(f"{url}/health"), url)


def prefect_server(settings: Settings) -> ServiceSpec:
    """Prefect on SQLite: the embedded Postgres lacks pg_trgm, which Prefect needs."""
    port = free_port(settings.ports.prefect)
    url = f"http://{_HOST}:{port}"
    argv = _module("prefect", "server", "start", "--host", _HOST, "--port", str(port))
    return ServiceSpec("Prefect", argv, _prefect_env(settings, f"{url}/api"), answers(f"{url}/api/health"), url)


def worker(settings: Settings) -> ServiceSpec:
    """A process worker with our own code's environment; looks for runs every two seconds."""
    port = free_port(0)
    env = _prefect_env(settings, settings.prefect_url) | {
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_PREFETCH_SECONDS": "2",
        "PREFECT_WORKER_WEBSERVER_HOST": _HOST,
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    argv = _module("prefect", "worker", "start", "--type", "process", "--pool", settings.work_pool,
                   "--limit", str(settings.embedding.workers), "--with-healthcheck")  # fmt: skip
    return ServiceSpec("worker", argv, env | _handed_down(settings), answers(f"http://{_HOST}:{port}/health"))


def watcher(settings: Settings) -> ServiceSpec:
    """`deltadex watch`."""
    health = answers(f"http://{settings.webhook.host}:{settings.webhook.port}/health")
    env = _prefect_env(settings, settings.prefect_url) | _handed_down(settings)
    return ServiceSpec("watcher", _module("deltadex", "watch"), env, health)


def dashboard(settings: Settings) -> ServiceSpec:
    """Streamlit, on loopback only."""
    found = importlib.util.find_spec("deltadex_dashboard")
    if found is None or importlib.util.find_spec("streamlit") is None:
        raise StackError("The dashboard is not installed", hint="Install deltadex[dashboard].")
    app = Path(next(iter(found.submodule_search_locations or ()))) / "app.py"
    port = free_port(settings.ports.dashboard)
    url = f"http://{_HOST}:{port}"
    argv = _module("streamlit", "run", str(app), "--server.address", _HOST, "--server.port", str(port),
                   "--server.headless", "true", "--browser.gatherUsageStats", "false",
                   "--server.fileWatcherType", "none")  # fmt: skip
    return ServiceSpec("dashboard", argv, environment() | _handed_down(settings), answers(f"{url}/_stcore/health"), url)


def _kept_key(path: Path) -> str:
    """Return the Fernet key in this file, which is made on first use and readable by this user alone."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(base64.urlsafe_b64encode(secrets.token_bytes(32)))
    return path.read_text()


def _module(*argv: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *argv)


def _prefect_env(settings: Settings, api_url: str) -> dict[str, str]:
    return environment(PREFECT_HOME=str(settings.data_dir / "prefect"), PREFECT_API_URL=api_url)


def _handed_down(settings: Settings) -> dict[str, str]:
    """Return all settings as the variables in which the children read them, secrets included."""
    variables: dict[str, str] = {}
    for name, value in settings:
        if isinstance(value, BaseModel):
            variables |= {f"{PREFIX}{name}__{key}".upper(): _plain(inner) for key, inner in value if inner is not None}
        elif value is not None:
            variables[f"{PREFIX}{name}".upper()] = _plain(value)
    return variables


def _plain(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict | tuple):
        return json.dumps(value, default=lambda inner: inner.model_dump(mode="json"))
    return str(value)
