"""Real services for tests: Postgres, MLflow and Prefect, each started once."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from deltadex.app import App
from deltadex.registry.client import Registry
from deltadex.scheduler import load_scheduler
from deltadex.setting_groups import DatabaseSettings
from deltadex.settings import Settings
from deltadex.stack import specs
from deltadex.stack.postgres import EmbeddedPostgres
from deltadex.stack.process import Service
from deltadex.store.database import Database
from deltadex.store.migrate import migrate

# Without reseeds no near duplicates are claimed, and without many models no repeated tasks; most tests are about them.
os.environ.setdefault("DELTADEX_THRESHOLDS__NEAR_DUPLICATE_SIMILARITY", "0.95")
os.environ.setdefault("DELTADEX_THRESHOLDS__SAME_TASK_SIMILARITY", "0.8")

#: Nothing here is timed: on a busy machine, any example may take longer than hypothesis allows.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

_TESTS = Path(__file__).parent
_TEMPLATE = "migrated_template"
_numbers = itertools.count(1)

#: Fixtures that start a server, and folders whose tests run models: the marks follow from these.
_SERVICES = {"postgres_url", "servers", "company"}
_WITH_TORCH = {"engine", "demo", "flows", "e2e"}
_BUILDS_MODELS = {"torch", "tests.tiny_models", "tests.many_models", "tests.language_models", "tests.quantized_models"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need, and keep those of a file in one process."""
    for item in items:
        fixtures, folder = set(getattr(item, "fixturenames", ())), item.path.relative_to(_TESTS).parts[0]
        if fixtures & _SERVICES:
            item.add_marker("services")
        if "browser" in fixtures or folder == "e2e":
            item.add_marker("browser")
        if folder in _WITH_TORCH or _imports(getattr(item, "module", None)) & _BUILDS_MODELS:
            item.add_marker("torch")
        item.add_marker(pytest.mark.xdist_group(str(item.path)))


def _imports(module: object) -> set[str]:
    """Return the modules that a test module names, or whose objects it does."""
    values = vars(module).values() if module else ()
    named = (getattr(value, "__name__" if isinstance(value, ModuleType) else "__module__", None) for value in values)
    return {name for name in named if isinstance(name, str)}


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
            connection.execute(SQL("create database {} template {}").format(Identifier(name), Identifier(template)))
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


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running MLflow and a running Prefect server, as the embedded stack runs them."""
    data_dir = tmp_path_factory.mktemp("servers")
    settings = Settings(data_dir=data_dir, ports={"mlflow": unused_port(), "prefect": unused_port()})
    settings = settings.model_copy(update={"prefect_auth": SecretStr(specs.prefect_auth(settings))})
    wanted = [specs.mlflow_server(settings), specs.prefect_server(settings)]
    running = [Service(spec, data_dir / f"{spec.name}.log") for spec in wanted]
    try:
        for service in running:
            service.start()
        for service in running:
            service.wait_up(120)
        mlflow, prefect = (spec.url for spec in wanted)
        yield settings.model_copy(update={"tracking_uri": mlflow, "prefect_api_url": f"{prefect}/api"})
    finally:
        for service in running:
            service.stop()


@pytest.fixture
def registry(servers: Settings) -> Iterator[Registry]:
    """A registry on the running MLflow server, without models."""
    registry = Registry(servers.mlflow_uri, name="acme")
    for model in registry.client.search_registered_models():
        registry.client.delete_registered_model(model.name)
    experiment = registry.client.get_experiment_by_name("deltadex")
    for tag in experiment.tags if experiment else ():
        registry.client.delete_experiment_tag(experiment.experiment_id, tag)
    return registry


@pytest.fixture
def app(servers: Settings, database: Database, registry: Registry, tmp_path: Path) -> Iterator[App]:
    """All three services, real and empty; the scheduler is only reached by tests that deploy."""
    settings = servers.model_copy(
        update={
            "data_dir": tmp_path,
            "registry": registry.name,
            "work_pool": f"pool-{tmp_path.name}",
            "database": DatabaseSettings(url=database.url),
        }
    )
    return App(settings, database, registry, load_scheduler(settings))
