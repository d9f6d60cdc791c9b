"""Supervisor of the embedded stack: starts the services in order, restarts them, and stops them in reverse order."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import IO, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from deltadex.engine import shared
from deltadex.errors import StackError
from deltadex.setting_groups import DatabaseSettings, Login
from deltadex.settings import ARTIFACT_KEY_FILE, STACK_FILE, Settings
from deltadex.stack import specs
from deltadex.stack.ports import free_port
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.stack.process import ProcessId, Service, ServiceSpec, wait_all_up
from deltadex.stack.running import RunningService, RunningStack
from deltadex.store.roles import DatabaseRole, logins_of

_START_SECONDS = 120
#: A stack that runs for months may see a service die more often than one that cannot start it.
_MAX_RESTARTS, _RESTART_WINDOW_SECONDS = 5, 600
#: Number of retries with other ports, and servers' error messages for a port that is taken.
_PORT_RETRIES, _PORT_TAKEN = 2, ("address already in use", "is not available")

log = logging.getLogger(__name__)


class Stack:
    """The services as children of this process, except those that the settings give an address for.

    Parameters
    ----------
    settings
        If a tracking URI, database URL or Prefect API URL is set, that service is used instead of starting one.
    report
        Called with one line of text per event.
    """

    def __init__(self, settings: Settings, *, report: Callable[[str], None]) -> None:
        self.settings = settings
        self.services: list[Service] = []
        self._report = report
        self._lock: IO[str] | None = None

    def start(self) -> Settings:
        """Start all services and return the settings with their addresses.

        Raises
        ------
        StackError
            A stack is already running on this data folder, or a service did not start; then all services are stopped.
        """
        self._take_lock()
        try:
            specs.secret_file(self.settings.data_dir / ARTIFACT_KEY_FILE)
            self._with_free_ports(self._start_servers)
            # In a process of its own: what it imports would take 250 MB here for as long as the stack runs.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
                for line in other.submit(_initialised, self.settings).result():
                    self._report(line)
            self._with_free_ports(self._start_clients)
        except BaseException:
            self.stop()
            raise
        self._use(dashboard_url=self.services[-1].spec.url)
        return self.settings

    def supervise(self, stop: threading.Event) -> None:
        """Restart services that died, until `stop` is set.

        Raises
        ------
        StackError
            A service died too often.
        """
        while not stop.wait(1):
            for service in self.services:
                if service.id is None:
                    self._restart(service)

    def stop(self) -> None:
        """Stop all services, last first, and release the data folder."""
        for service in reversed(self.services):
            self._report(f"stopping {service.spec.name}")
            service.stop()
        self.services.clear()
        shared.end_embedding_process(self.settings)
        # Without the lock, the file belongs to another stack.
        if self._lock is not None:
            (self.settings.data_dir / STACK_FILE).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _with_free_ports(self, start: Callable[[], None]) -> None:
        """Start services; retry with other ports if another process takes a port between its choice and its use."""
        count_before = len(self.services)
        for _ in range(_PORT_RETRIES):
            try:
                return start()
            except StackError as error:
                if not any(text in error.message.lower() for text in _PORT_TAKEN):
                    raise
                self._report(f"{error.message.splitlines()[0]}: its port is taken; trying another one")
                for service in reversed(self.services[count_before:]):
                    service.stop()
                del self.services[count_before:]
        return start()

    def _start_servers(self) -> None:
        """Start Postgres, MLflow and Prefect, except those with an address in the settings; store their addresses."""
        settings = self.settings
        if settings.tracking_uri is None:
            # Only our own MLflow may call a receiver on loopback.
            ours = {"secret": secrets.token_urlsafe(32), "port": free_port(settings.webhook.port)}
            self._use(webhook={**settings.webhook.model_dump(), **ours})
            if settings.access.file is None and not settings.sources.folders:
                # Only this user registers versions there, and may read these folders anyway.
                self._use(sources={**settings.sources.model_dump(), "folders": ("/",)})
        postgres = EmbeddedPostgres(settings.data_dir / "postgres", free_port(settings.ports.postgres))
        wanted, database = list[ServiceSpec](), settings.database
        if settings.database.url is None:
            postgres.prepare()
            wanted.append(specs.postgres(settings, postgres))
            database = database.model_copy(update=_logins(postgres))
        if settings.tracking_uri is None:
            wanted.append(specs.mlflow_server(acting_as("reader", settings.model_copy(update={"database": database}))))
        if settings.prefect_api_url is None:
            self._use(prefect_auth=specs.prefect_auth(settings))
            wanted.append(specs.prefect_server(self.settings))
        self._start(wanted)
        urls = {spec.name: spec.url for spec in wanted}
        self._use(
            database=database,
            tracking_uri=settings.tracking_uri or urls["MLflow"],
            prefect_api_url=settings.prefect_api_url or f"{urls['Prefect']}/api",
        )

    def _start_clients(self) -> None:
        """Start worker, watcher and dashboard."""
        webhook, metrics = self.settings.webhook, self.settings.metrics
        self._use(
            webhook={**webhook.model_dump(), "port": free_port(webhook.port)},
            metrics={**metrics.model_dump(), "port": metrics.port and free_port(metrics.port)},
        )
        writer, dashboard = acting_as("writer", self.settings), acting_as("dashboard", self.settings)
        self._start([specs.worker(writer), specs.watcher(writer), specs.dashboard(dashboard)])
        *_, watcher, _ = self.services
        port = self.settings.metrics.port
        if port and not watcher.listens_on(port) and free_port(port) != port:  # it goes on without its metrics
            raise StackError(f"watcher: the port for metrics, {port}, is not available")

    def _start(self, wanted: Sequence[ServiceSpec]) -> None:
        """Start services at the same time and wait for all of them."""
        started = [Service(spec, self.settings.data_dir / "logs" / f"{spec.name.lower()}.log") for spec in wanted]
        for service in started:
            service.start()
            self.services.append(service)
            self._write_stack_file()
        for service in wait_all_up(started, _START_SECONDS):
            self._report(f"{service.spec.name} is up{self._address(service.spec)}")

    def _address(self, spec: ServiceSpec) -> str:
        """Return the suffix of a status line: the service's address, and the preferred port if that is taken."""
        if spec.url is None:
            return ""
        preferred = getattr(self.settings.ports, spec.name.lower(), None)
        is_moved = preferred not in (None, urlsplit(spec.url).port)
        return f" at {spec.url}" + (f": port {preferred} is taken" if is_moved else "")

    def _restart(self, service: Service) -> None:
        now = time.monotonic()
        recent = [at for at in service.restarted_at if now - at < _RESTART_WINDOW_SECONDS]
        if len(recent) >= _MAX_RESTARTS:
            raise StackError(
                f"{service.spec.name} died {len(recent) + 1} times within {_RESTART_WINDOW_SECONDS // 60} minutes",
                hint=f"Its log: {service.log}",
            )
        service.restarted_at = [*recent, now]
        self._report(f"{service.spec.name} died; restarting it ({len(recent) + 1} of {_MAX_RESTARTS})")
        service.start()
        service.wait_up(_START_SECONDS)
        self._write_stack_file()

    def _use(self, **values: Any) -> None:
        self.settings = Settings.model_validate({**self.settings.model_dump(), **values})
        self._write_stack_file()

    def _take_lock(self) -> None:
        self.settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (self.settings.data_dir / "stack.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise StackError(
                f"A stack is already running on {self.settings.data_dir}",
                hint="`deltadex status` shows it and `deltadex down` stops it; another --data-dir runs a second stack.",
            ) from error
        self._lock = lock

    def _write_stack_file(self) -> None:
        services = [
            RunningService(service.spec.name, service.spec.url, str(service.log), identity, service.spec.stop_signal)
            for service in self.services
            if (identity := service.id)
        ]
        RunningStack(ProcessId.of(os.getpid()), tuple(services)).write(self.settings.data_dir, self._addresses())

    def _addresses(self) -> dict[str, Any]:
        settings, webhook = self.settings, self.settings.webhook
        addresses: dict[str, Any] = {
            "tracking_uri": settings.tracking_uri,
            "prefect_api_url": settings.prefect_api_url,
            "dashboard_url": settings.dashboard_url,
            "webhook": {"port": webhook.port},
            "metrics": {"port": settings.metrics.port},
            "sources": {"folders": [str(folder) for folder in settings.sources.folders]},
        }
        if settings.database.url:
            logins = {f"{role.name.lower()}_url": url for role, url in logins_of(settings.database).items()}
            addresses["database"] = {"url": settings.database_url, **logins}
        if settings.prefect_auth:
            addresses["prefect_auth"] = settings.prefect_auth.get_secret_value()
        return {name: value for name, value in addresses.items() if value is not None}


def _initialised(settings: Settings) -> list[str]:
    from deltadex.app import open_app
    from deltadex.ingest.setup import initialise

    with open_app(settings) as app:
        return initialise(app)


def _logins(postgres: EmbeddedPostgres) -> dict[str, SecretStr]:
    """Return the connection strings of the owner and, with new passwords, of the services."""
    urls = {f"{role.name.lower()}_url": postgres.url_as(role, secrets.token_urlsafe(32)) for role in DatabaseRole}
    return {name: SecretStr(url) for name, url in {"url": postgres.url, **urls}.items()}


def acting_as(login: Login, settings: Settings) -> Settings:
    """Return the settings of a service, whose login is the only one in them."""
    if settings.database.url is None:
        return settings
    url, given = settings.url_of(login), settings.database
    role = given.role if url == settings.database_url else None  # a login of its own has the rights of its role
    database = DatabaseSettings(url=SecretStr(url), pool_size=given.pool_size, role=role)
    return settings.model_copy(update={"database": database})
