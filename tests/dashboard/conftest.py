"""Pages run by Streamlit on a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import streamlit as st
from psycopg.conninfo import make_conninfo
from streamlit.testing.v1 import AppTest

import deltadex_dashboard
from deltadex.geometry.measure import measure_where_due
from deltadex.ingest.round import recompute_where_due
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from deltadex_dashboard import visitor
from tests.dashboard.company import fill
from tests.stored import REGISTRY

Open = Callable[..., AppTest]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Set the environment as the stack does, without a database."""
    monkeypatch.setenv("DELTADEX_REGISTRY", REGISTRY)
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(tmp_path))
    # AppTest has no connection, so it has no address.
    monkeypatch.setattr(visitor, "_address", lambda: "127.0.0.1")
    yield monkeypatch
    # Closes the connections to this test's database.
    st.cache_resource.clear()


@pytest.fixture
def store(environment: pytest.MonkeyPatch, database: Database) -> Database:
    """Let the pages read an empty store."""
    environment.setenv("DELTADEX_DATABASE__URL", database.url)
    return database


@pytest.fixture(scope="session")
def company_url(postgres_url: str) -> str:
    """Return a store with every kind of version and finding."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database company")
    url = make_conninfo(postgres_url, dbname="company")
    with Database(url) as database:
        migrate(database)
        with database.transaction() as tx:
            fill(tx)
        recompute_where_due(database, Settings(registry=REGISTRY))
        measure_where_due(database, Settings(registry=REGISTRY))
    return url


@pytest.fixture
def company(environment: pytest.MonkeyPatch, company_url: str) -> None:
    """Let the pages read the filled store, which tests share and must not change."""
    environment.setenv("DELTADEX_DATABASE__URL", company_url)


@pytest.fixture
def open_page(environment: pytest.MonkeyPatch) -> Open:
    """Open a page by its name, as a link with these query parameters does."""
    [folder] = deltadex_dashboard.__path__

    def open_page(name: str, **parameters: str) -> AppTest:
        page = AppTest.from_file(str(Path(folder) / "app.py"), default_timeout=30)
        for parameter, value in parameters.items():
            page.query_params[parameter] = value
        page.switch_page(f"screens/{name}.py").run()
        assert not page.exception
        return page

    return open_page
