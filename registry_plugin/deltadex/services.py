"""The three services that everything past the edges talks to, opened together from one `Settings`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltadex.scheduler import Scheduler, load_scheduler
from deltadex.settings import Settings
from deltadex.store.database import Database

if TYPE_CHECKING:
    from deltadex.mlflow_edge.registry import Registry


@dataclass(frozen=True)
class Services:
    """Store, registry and scheduler of one Deltadex."""

    settings: Settings
    database: Database
    registry: Registry
    scheduler: Scheduler


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    """Open all three; connections are made when they are first used.

    Raises
    ------
    SettingsError
        One of the addresses is not known.
    """
    # It takes over half a second to import, which commands that only read and the dashboard do without.
    from deltadex.mlflow_edge.registry import Registry

    registry = Registry(settings.mlflow_uri, name=settings.registry)
    with Database(
        settings.database_url, pool_size=settings.database.pool_size, role=settings.database.role
    ) as database:
        yield Services(settings, database, registry, load_scheduler(settings))
