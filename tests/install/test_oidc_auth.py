"""MLflow behind mlflow-oidc-auth with our pages inside, in an environment of its own, at a browser."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright
from psycopg.conninfo import make_conninfo

from benchmarks.browser import launch
from deltadex.setting_groups import PortSettings
from deltadex.settings import SETTINGS_FILE, Settings
from deltadex.stack import specs
from deltadex.stack.process import Service
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from tests.conftest import unused_port
from tests.install.environments import environment_with
from tests.install.interpreters import supported_interpreters, version_of
from tests.oidc_provider import provider
from tests.stored import REGISTRY, embedded, grouped

pytestmark = pytest.mark.install

PEOPLE = """
[groups.sql-team]
role = "viewer"
models = ["sql-*"]

[people."ida@acme.com"]
role = "admin"
"""
USERS = tuple(
    {"sub": name, "email": f"{name}@acme.com", "email_verified": True, "name": name, "groups": groups}
    for name, groups in {
        "ann": ["mlflow", "sql-team"],
        "ida": ["mlflow"],
        "vic": ["mlflow"],
        "eve": ["elsewhere"],
        "rob": ["mlflow-admin"],
    }.items()
)
HOUR = 3600

Visit = Callable[[str], Page]


@dataclass(frozen=True)
class Behind:
    """MLflow with the login in front of it."""

    url: str
    log: Path
    settings: Path
    people: Path


@pytest.fixture(scope="module")
def interpreter() -> Path:
    """Python of the environment. Version 11.0.2 says that Python 3.11 is enough, and can't be imported there."""
    newest = supported_interpreters()[-1]
    if str(version_of(newest)).startswith("3.11"):
        pytest.skip("mlflow-oidc-auth 11 needs Python 3.12 or 3.13, which this machine lacks")
    return environment_with("mlflow-oidc-auth>=11,<12", python=newest)


@pytest.fixture(scope="module")
def behind(interpreter: Path, postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """MLflow, its login and our pages about a model that the SQL team sees, and a similar one that it doesn't."""
    folder = tmp_path_factory.mktemp("oidc")
    (folder / "people.toml").write_text(PEOPLE)
    settings = Settings(data_dir=folder, registry=REGISTRY, ports=PortSettings(mlflow=unused_port()))
    made = Behind("", folder / "mlflow.log", folder / SETTINGS_FILE, folder / "people.toml")
    known = {"database": {"url": _filled(postgres_url)}, "registry": REGISTRY, "access": {"file": str(made.people)}}
    made.settings.write_text(json.dumps({**known, "mlflow_app": "oidc-auth"}))
    spec = specs.mlflow_server(settings)
    with provider(USERS, HOUR) as issuer:
        env = {name: value for name, value in spec.env.items() if name != "PYTHONPATH"}
        env |= _login(issuer, spec.url, folder)
        service = Service(replace(spec, argv=(str(interpreter), *spec.argv[1:]), env=env), made.log)
        service.start()
        try:
            service.wait_up(300)
            yield replace(made, url=str(spec.url))
        finally:
            service.stop()


def _filled(postgres_url: str) -> str:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database behind_oidc")
    url = make_conninfo(postgres_url, dbname="behind_oidc")
    with Database(url) as database:
        migrate(database)
        with database.transaction() as tx:
            ids = [embedded(tx, "payroll", np.array([1.0, 0.1])), embedded(tx, "sql-writer", np.array([1.0, 0.0]))]
            grouped(tx, ids, 0.995)
    return url


def _login(issuer: str, url: str | None, folder: Path) -> dict[str, str]:
    """Return the variables of mlflow-oidc-auth."""
    return {
        "OIDC_DISCOVERY_URL": f"{issuer}/.well-known/openid-configuration",
        "OIDC_CLIENT_ID": "mlflow",
        "OIDC_CLIENT_SECRET": "secret",
        "OIDC_REDIRECT_URI": f"{url}/callback",
        "OIDC_USERS_DB_URI": f"sqlite:///{folder / 'auth.db'}",
        "SECRET_KEY": "only-for-this-test-only-for-this-test",
        "AUTOMATIC_LOGIN_REDIRECT": "true",
        "DEFAULT_LANDING_PAGE_IS_PERMISSIONS": "false",
    }


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def visit(behind: Behind, chromium: Browser) -> Iterator[Visit]:
    """Open a page, and log in as someone, in a browser that nobody has logged in with."""
    contexts = []

    def visit(user: str) -> Page:
        contexts.append(chromium.new_context())
        page = contexts[-1].new_page()
        page.goto(f"{behind.url}/deltadex/")
        page.get_by_role("button", name=user, exact=True).click(timeout=30_000)
        return page

    yield visit
    for context in contexts:
        context.close()


def test_the_environment_has_what_mlflow_needs_and_nothing_that_embeds(interpreter: Path) -> None:
    code = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True, env={})
    names = set(done.stdout.split())
    assert {"deltadex", "mlflow", "mlflow-oidc-auth"} <= names
    assert names.isdisjoint({"torch", "transformers", "peft", "prefect", "streamlit"})


def test_a_login_opens_what_the_persons_groups_may_see(visit: Visit) -> None:
    page = visit("ann")
    expect(page.get_by_role("heading", name="Registered models")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("1 registered model with 1 version")).to_be_visible()
    page.get_by_role("link", name="sql-writer/1").click()
    expect(page.get_by_role("heading", name="sql-writer/1")).to_be_visible()
    expect(page.get_by_text("•••").first).to_be_visible()
    assert "payroll" not in page.content()
    answer = page.request.get(page.url.split("?")[0] + "api/version?name=payroll&version=1")
    assert answer.status == 404


def test_an_entry_of_ones_own_opens_all_models(visit: Visit) -> None:
    page = visit("ida")
    expect(page.get_by_text("2 registered models with 2 versions")).to_be_visible(timeout=30_000)


def test_who_may_use_mlflow_but_is_not_listed_sees_nothing(visit: Visit) -> None:
    page = visit("vic")
    expect(page.get_by_text("vic@acme.com has no role here")).to_be_visible(timeout=30_000)
    assert "sql-writer" not in page.content()


def test_who_may_not_use_mlflow_sees_nothing(visit: Visit, behind: Behind) -> None:
    page = visit("eve")
    page.wait_for_url(f"{behind.url}/**", timeout=30_000)
    assert page.request.get(f"{behind.url}/deltadex/api/models").status == 401


def test_without_an_access_file_only_admins_of_the_app_see_models(visit: Visit, behind: Behind) -> None:
    whole = behind.settings.read_text()
    behind.settings.write_text(json.dumps({**json.loads(whole), "access": {}}))
    try:
        expect(visit("rob").get_by_text("2 registered models with 2 versions")).to_be_visible(timeout=30_000)
        expect(visit("ida").get_by_text("DELTADEX_ACCESS__FILE")).to_be_visible(timeout=30_000)
    finally:
        behind.settings.write_text(whole)


@pytest.mark.parametrize("path", ["deltadex/", "deltadex/api/models", "deltadex/api/version?name=sql-writer&version=1"])
def test_who_has_not_logged_in_is_refused(behind: Behind, path: str) -> None:
    for headers in ({}, {"Authorization": "Basic aWRhQGFjbWUuY29tOm5v"}, {"X-Forwarded-User": "ida@acme.com"}):
        answer = requests.get(f"{behind.url}/{path}", headers=headers, timeout=30, allow_redirects=False)
        assert answer.status_code == 401
        assert "sql-writer" not in answer.text
    assert requests.get(f"{behind.url}/health", timeout=30).ok
