"""A dashboard on a store that is filled without any other service, and people who visit it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from playwright.sync_api import Browser, Page, expect
from psycopg.conninfo import make_conninfo

from deltadex.ingest.round import recompute_where_due
from deltadex.setting_groups import DatabaseSettings, PortSettings
from deltadex.settings import Settings
from deltadex.stack import specs
from deltadex.stack.process import Service, ServiceSpec
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from tests.conftest import unused_port
from tests.dashboard.company import fill
from tests.stored import REGISTRY

#: Streamlit looks for its own service below a deep link first.
_OWN_NOISE = "/_stcore/"
#: Opens a path in a browser of its own, of a width in pixels.
Visit = Callable[..., Page]


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


def database_url(postgres_url: str, folder: Path) -> str:
    """Return the address of the store behind the `dashboard` of a folder."""
    return make_conninfo(postgres_url, dbname=_name(folder))


def _name(folder: Path) -> str:
    return re.sub(r"\W", "_", folder.name)


@contextmanager
def dashboard(
    postgres_url: str, folder: Path, *, prepare: Callable[[Transaction], object] = lambda _: None
) -> Iterator[str]:
    """Run a dashboard on a filled store, after a round, and yield where it listens.

    Parameters
    ----------
    prepare
        Changes the store before the round.
    """
    url = filled_database(postgres_url, _name(folder))
    with Database(url) as database:
        with database.transaction() as tx:
            prepare(tx)
        recompute_where_due(database, Settings(registry=REGISTRY))
    ports = PortSettings(dashboard=unused_port())
    settings = Settings(data_dir=folder, registry=REGISTRY, database=DatabaseSettings(url=url), ports=ports)
    with running(specs.dashboard(settings), folder) as address:
        yield address


@contextmanager
def visitors(address: str, browser: Browser) -> Iterator[Visit]:
    """Let people visit a dashboard; at the end nothing was complained of, and no other host was asked."""
    contexts, complaints, asked = [], list[str](), list[str]()

    def visit(path: str, *, width: int = 1280) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 1000}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text)
                if said.type == "error" and _OWN_NOISE not in said.location["url"]
                else None
            ),
        )
        page.goto(f"{address}/{path}")
        expect(page.get_by_test_id("stHeading").first).to_be_visible(timeout=60_000)
        return page

    yield visit
    for context in contexts:
        context.close()
    host = re.escape(address.removeprefix("http://"))
    assert complaints == []
    assert [url for url in asked if not re.match(rf"(http|ws)://{host}/|data:|blob:", url)] == []


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
