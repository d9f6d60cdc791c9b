"""Store, registry and scheduler, opened together from one `Settings`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deltadex.scheduler import Scheduler, load_scheduler
from deltadex.settings import Settings
from deltadex.store.database import Database

if TYPE_CHECKING:
    from deltadex.registry.client import Registry


@dataclass(frozen=True)
class App:
    """Store, registry and scheduler of one Deltadex."""

    settings: Settings
    database: Database
    registry: Registry
    scheduler: Scheduler

    def within(self, workspace: str) -> App:
        """Return the same for one workspace of the same MLflow server; its registry is to be used within `bound`."""
        settings = self.settings.within(workspace)
        return replace(self, settings=settings, registry=registry_of(settings), scheduler=load_scheduler(settings))


@contextmanager
def open_app(settings: Settings) -> Iterator[App]:
    """Open store, registry and scheduler; each connects when it is first used. The store is opened by its writer.

    Raises
    ------
    SettingsError
        An address is not set.
    """
    registry = registry_of(settings)
    with (
        registry.bound(),
        Database(
            settings.url_of("writer"), pool_size=settings.database.pool_size, role=settings.database.role
        ) as database,
    ):
        yield App(settings, database, registry, load_scheduler(settings))


def registry_of(settings: Settings) -> Registry:
    """Return the client of MLflow's registry.

    Raises
    ------
    SettingsError
        No address is set.
    """
    # Takes over half a second to import, which read-only commands and the dashboard can save.
    from deltadex.registry.client import Registry
    from deltadex.registry.pace import limit_requests

    limit_requests(settings.requests_per_second)
    return Registry(settings.mlflow_uri, name=settings.registry, sources=settings.sources)
