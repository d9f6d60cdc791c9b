"""Start in order, watch over, stop in reverse order."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

from deltadex import pipeline
from deltadex.errors import StackError
from deltadex.initialise import initialise
from deltadex.services import open_services
from deltadex.settings import STACK_FILE, Settings
from deltadex.stack import specs
from deltadex.stack.ports import free_port
from deltadex.stack.process import ProcessId, Service, ServiceSpec
from deltadex.stack.running import RunningService, RunningStack
from deltadex.store.embedded import EmbeddedPostgres
from deltadex.store.roles import Role

_START_SECONDS = 120
_MAX_RESTARTS = 5

log = logging.getLogger(__name__)


class Stack:
    """The services that nobody gave an address for, as children of this process.

    Parameters
    ----------
    settings
        Where a tracking URI, database URL or Prefect API URL is set, that service is used and not started.
    report
        Called with one line for each thing that happens.
    """

    def __init__(self, settings: Settings, *, report: Callable[[str], None]) -> None:
        self.settings = settings
        self.services: list[Service] = []
        self._report = report
        self._lock: IO[str] | None = None

    def start(self) -> Settings:
        """Start everything and return the settings with the addresses of what runs.

        Raises
        ------
        StackError
            A stack runs on this data folder already, or a service does not come up; nothing is left running then.
        """
        self._take_lock()
        try:
            self._start_servers()
            with open_services(self.settings) as services:
                for line in initialise(services):
                    self._report(line)
            writer, reader = self._acting_as(Role.WRITER), self._acting_as(Role.READER)
            self._start([specs.worker(writer), specs.watcher(writer), specs.dashboard(reader)])
        except BaseException:
            self.stop()
            raise
        self._use(dashboard_url=self.services[-1].spec.url)
        return self.settings

    def supervise(self, stop: threading.Event) -> None:
        """Start again what died, until `stop` is set.

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
        """Stop all services, last first, and leave the data folder to the next start."""
        for service in reversed(self.services):
            self._report(f"stopping {service.spec.name}")
            service.stop()
        self.services.clear()
        pipeline.end_embedding_process(self.settings)
        # Without the lock, the file is that of another stack.
        if self._lock is not None:
            (self.settings.data_dir / STACK_FILE).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _start_servers(self) -> None:
        """Start those of Postgres, MLflow and Prefect that are not given, and take their addresses over."""
        given = self.settings
        if given.tracking_uri is None:
            # Only our own MLflow may call a receiver on loopback.
            self._use(webhook={**given.webhook.model_dump(), "secret": secrets.token_urlsafe(32)})
        self._use(webhook={**self.settings.webhook.model_dump(), "port": free_port(given.webhook.port)})
        postgres = EmbeddedPostgres(given.data_dir / "postgres", free_port(given.ports.postgres))
        wanted: list[ServiceSpec] = []
        if given.database.url is None:
            postgres.prepare()
            wanted.append(specs.postgres(postgres))
        if given.tracking_uri is None:
            wanted.append(specs.mlflow_server(given))
        if given.prefect_api_url is None:
            wanted.append(specs.prefect_server(given))
        self._start(wanted)
        urls = {spec.name: spec.url for spec in wanted}
        self._use(
            database=given.database if given.database.url else {**given.database.model_dump(), "url": postgres.url},
            tracking_uri=given.tracking_uri or urls["MLflow"],
            prefect_api_url=given.prefect_api_url or f"{urls['Prefect']}/api",
        )

    def _start(self, wanted: Sequence[ServiceSpec]) -> None:
        """Start services at the same time and wait for all of them."""
        started = [Service(spec, self.settings.data_dir / "logs" / f"{spec.name.lower()}.log") for spec in wanted]
        for service in started:
            service.start()
            self.services.append(service)
            self._write_stack_file()
        for service in started:
            service.wait_up(_START_SECONDS)
            self._report(f"{service.spec.name} is up")

    def _restart(self, service: Service) -> None:
        if service.restarts >= _MAX_RESTARTS:
            raise StackError(f"{service.spec.name} died {service.restarts + 1} times", hint=f"Its log: {service.log}")
        service.restarts += 1
        self._report(f"{service.spec.name} died; starting it again ({service.restarts} of {_MAX_RESTARTS})")
        service.start()
        service.wait_up(_START_SECONDS)
        self._write_stack_file()

    def _acting_as(self, role: Role) -> Settings:
        """Return the settings of a child with no more rights than it needs."""
        owns_store = any(service.spec.name == "Postgres" for service in self.services)
        if not owns_store:
            return self.settings  # whose user may not be allowed to take on a role
        database = self.settings.database.model_copy(update={"role": role.value})
        return self.settings.model_copy(update={"database": database})

    def _use(self, **values: Any) -> None:
        self.settings = Settings.model_validate({**self.settings.model_dump(), **values})
        self._write_stack_file()

    def _take_lock(self) -> None:
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        lock = (self.settings.data_dir / "stack.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise StackError(
                f"A stack is running on {self.settings.data_dir} already",
                hint="`deltadex status` shows it, `deltadex down` stops it; another --data-dir runs beside it.",
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
        }
        if settings.database.url:
            addresses["database"] = {"url": settings.database_url}
        return {name: value for name, value in addresses.items() if value is not None}
