"""A real Postgres for every test that asks for one: the embedded server, started once."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from deltadex.store.database import Database
from deltadex.store.embedded import EmbeddedPostgres
from deltadex.store.migrate import migrate

_TEMPLATE = "migrated_template"
_numbers = itertools.count(1)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Connection string of a running server; its database is empty."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), unused_port()).running() as url:
        yield url


@pytest.fixture
def new_database_url(postgres_url: str) -> Callable[..., str]:
    """Make a database, empty or from a template, and give its connection string."""

    def create(name: str | None = None, *, template: str = "template0") -> str:
        name = name or f"test_{next(_numbers)}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                SQL("create database {} template {} strategy file_copy").format(Identifier(name), Identifier(template))
            )
        return postgres_url.removesuffix(conninfo_to_dict(postgres_url)["dbname"]) + name

    return create


@pytest.fixture
def database(postgres_url: str, new_database_url: Callable[..., str]) -> Iterator[Database]:
    """A freshly migrated database of its own."""
    with psycopg.connect(postgres_url) as connection:
        exists = connection.execute("select 1 from pg_database where datname = %s", [_TEMPLATE]).fetchone()
    if not exists:
        with Database(new_database_url(_TEMPLATE)) as template:
            migrate(template)
    with Database(new_database_url(template=_TEMPLATE)) as database:
        yield database
