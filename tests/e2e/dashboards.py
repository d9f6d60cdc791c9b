"""A dashboard on a store that is filled without any other service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from deltadex.stack.process import Service, ServiceSpec
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from tests.dashboard.company import fill


def filled_database(postgres_url: str, name: str) -> str:
    """Return the address of a new database in which the company is."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    url = make_conninfo(postgres_url, dbname=name)
    with Database(url) as database:
        migrate(database)
        with database.transaction() as tx:
            fill(tx)
    return url


@contextmanager
def running(spec: ServiceSpec, folder: Path) -> Iterator[str]:
    """Run a dashboard with its log in a folder, and yield where it listens."""
    service = Service(spec, folder / "dashboard.log")
    service.start()
    try:
        service.wait_up(120)
        yield str(spec.url)
    finally:
        service.stop()
