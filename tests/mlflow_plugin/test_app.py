"""The plugin inside real MLflow servers, with and without basic-auth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from deltadex.catalog.listing import PAGE_SIZE
from deltadex.errors import RegistryError
from deltadex.registry.client import Registry
from deltadex.registry.rights import try_rights
from deltadex.registry.webhook import register_webhook
from deltadex.reviews import actions as reviews
from deltadex.setting_groups import PortSettings, WebhookSettings
from deltadex.settings import SETTINGS_FILE, Settings
from deltadex.stack import specs
from deltadex.stack.process import Service
from deltadex.store.database import Database
from tests.conftest import unused_port
from tests.stored import REGISTRY, discovered, embedded, grouped

NAME = "sql <writer>/é"
ADMIN, OTHER = ("admin", "a-long-password-1"), ("ann", "a-long-password-2")


@pytest.fixture
def known(database: Database) -> dict[str, Any]:
    """Settings, as a file holds them, of a store with two versions and a finding about them."""
    with database.transaction() as tx:
        older = embedded(tx, "legal", np.array([1.0, 0.1]))
        newer = embedded(tx, NAME, np.array([1.0, 0.0]))
        grouped(tx, [older, newer], 0.995)
        reviews.follow(tx, Settings(registry=REGISTRY))
    return {
        "database": {"url": database.url},
        "registry": REGISTRY,
        "dashboard_url": "http://dashboard.example:8501/",
    }


@pytest.fixture
def plain(servers: Settings, known: dict[str, Any]) -> Iterator[str]:
    """Address of MLflow as the embedded stack runs it."""
    file = servers.data_dir / SETTINGS_FILE
    file.write_text(json.dumps(known))
    yield servers.mlflow_uri
    file.unlink()


@pytest.fixture
def guarded(known: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """Address of MLflow with its logins and our pages."""
    with behind_logins(known, tmp_path, app_name="deltadex-basic-auth") as address:
        yield address


@pytest.fixture
def named(known: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """Address of MLflow with its logins, by their name in the settings, and an access file that decides alone."""
    people = {OTHER[0]: {"role": "viewer", "models": ["legal"]}}
    (tmp_path / "people.json").write_text(json.dumps({"people": people}))
    known = known | {"mlflow_app": "basic-auth", "access": {"file": str(tmp_path / "people.json")}}
    opened = {"MLFLOW_BASIC_AUTH_FAIL_CLOSED": "false"}
    with behind_logins(known, tmp_path, app_name="deltadex", **opened) as address:
        yield address


@contextmanager
def behind_logins(known: dict[str, Any], tmp_path: Path, *, app_name: str, **variables: str) -> Iterator[str]:
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(known))
    config = tmp_path / "auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{tmp_path / 'auth.db'}\nadmin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    settings = Settings(data_dir=tmp_path, registry=REGISTRY, ports=PortSettings(mlflow=unused_port()))
    spec = specs.mlflow_server(settings)
    argv = tuple(app_name if part == "deltadex" else part for part in spec.argv)
    env = spec.env | {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "for the forms"}
    env |= variables
    service = Service(replace(spec, argv=argv, env=env), tmp_path / "mlflow.log")
    service.start()
    try:
        service.wait_up(120)
        yield str(spec.url)
    finally:
        service.stop()


def test_a_versions_neighbours_and_findings_are_json(plain: str) -> None:
    answer = requests.get(f"{plain}/deltadex/api/version", {"name": NAME, "version": 1}, timeout=30)
    assert answer.status_code == 200
    found = answer.json()
    assert found["state"] == "embedded"
    assert found["neighbors"] == [{"name": "legal", "version": 1, "similarity": pytest.approx(0.995, abs=1e-3)}]
    [finding] = found["findings"]
    assert (finding["kind"], finding["status"], finding["other"]) == ("near_duplicate", "open", "legal/1")
    assert finding["title"] == f"legal/1 behaves nearly like {NAME}/1"
    assert found["dashboard"] == "http://dashboard.example:8501/model?model=sql+%3Cwriter%3E%2F%C3%A9&version=1"


def test_the_page_shows_the_same_and_runs_nothing_from_a_name(plain: str) -> None:
    answer = requests.get(f"{plain}/deltadex/", {"name": NAME, "version": 1}, timeout=30)
    assert answer.status_code == 200
    for expected in (
        "sql &lt;writer&gt;/é",
        "legal/1 behaves nearly like",
        "cosine similarity 0.995",
        "in the dashboard",
    ):
        assert expected in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert requests.get(f"{plain}/health", timeout=30).text == "OK"


def test_the_page_opens_on_the_registered_models(plain: str) -> None:
    answer = requests.get(f"{plain}/deltadex/", timeout=30)
    assert answer.status_code == 200
    assert "2 registered models with 2 versions" in answer.text
    assert '<a href="?name=sql+%3Cwriter%3E%2F%C3%A9&amp;version=1">sql &lt;writer&gt;/é/1</a>' in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    listed = requests.get(f"{plain}/deltadex/api/models", {"search": "sql"}, timeout=30).json()
    [model] = listed["models"]
    assert (model["name"], model["version"], model["state"], model["open_findings"]) == (NAME, 1, "embedded", 1)


def test_pages_of_models_are_bounded_and_keep_the_search(plain: str, database: Database) -> None:
    with database.transaction() as tx:
        for number in range(PAGE_SIZE):
            discovered(tx, f"many-{number}")
    asked = {"search": "many version", "page": 2}
    assert "No registered model meets all conditions." in requests.get(f"{plain}/deltadex/", asked, timeout=30).text
    first = requests.get(f"{plain}/deltadex/", timeout=30).text
    assert first.count("?name=") == PAGE_SIZE
    assert "page=2" in first
    last = requests.get(f"{plain}/deltadex/", {"page": 10**8}, timeout=30).text
    assert (last.count("?name="), "page=1" in last, "page=3" in last) == (2, True, False)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"name": "x", "version": 1}, 404),
        ({"name": "x", "version": "one"}, 400),
        ({"name": "x", "version": "9" * 5000}, 400),
        ({}, 400),
    ],
)
def test_what_is_not_known_is_said(plain: str, asked: dict[str, Any], status: int) -> None:
    answer = requests.get(f"{plain}/deltadex/api/version", asked, timeout=30)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert requests.get(f"{plain}/deltadex/", {"page": "two"}, timeout=30).status_code == 400


def test_without_a_store_the_page_says_so_and_nothing_about_it(servers: Settings) -> None:
    for asked in ({"name": "x", "version": 1}, {}):
        answer = requests.get(f"{servers.mlflow_uri}/deltadex/", asked, timeout=30)
        assert answer.status_code == 503
        assert "deltadex doctor" in answer.text
        assert "postgres" not in answer.text.lower()


def create_user(address: str) -> None:
    created = requests.post(
        f"{address}/api/2.0/mlflow/users/create",
        json={"username": OTHER[0], "password": OTHER[1]},
        auth=ADMIN,
        timeout=30,
    )
    assert created.status_code == 200, created.text


def test_with_basic_auth_nobody_without_a_login_gets_in(guarded: str) -> None:
    create_user(guarded)
    asked = {"name": NAME, "version": 1}
    for path in ("deltadex/", "deltadex/api/version", "deltadex/api/models"):
        codes = [
            requests.get(f"{guarded}/{path}", asked, auth=auth, timeout=30).status_code
            for auth in (None, ("admin", "wrong"), OTHER, ADMIN)
        ]
        assert codes == [401, 401, 403, 200]


def test_refusals_are_final_and_name_the_variable_or_the_right(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create_user(named)
    answers = [requests.get(f"{named}/deltadex/api/models", auth=auth, timeout=30) for auth in (None, ADMIN, OTHER)]
    assert [answer.status_code for answer in answers] == [401, 403, 200]
    assert [one["name"] for one in answers[2].json()["models"]] == ["legal"]
    registry = Registry(named, name=REGISTRY)

    def log_in(name: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    log_in(*ADMIN)
    registry.client.create_registered_model("one")
    registry.client.create_model_version("one", "s3://bucket/one")
    version = registry.read("one", 1)
    assert version is not None
    log_in(*OTHER)
    with pytest.raises(RegistryError) as forbidden:
        registry.set_tag(version.ref, "deltadex.state", "embedded")
    assert not forbidden.value.retryable
    assert "EDIT" in forbidden.value.hint
    with pytest.raises(RegistryError) as webhook:
        register_webhook(registry, WebhookSettings(secret="a-secret"))
    assert not webhook.value.retryable
    log_in(*ADMIN)
    assert "not tried" in try_rights(registry)
    registry.client.create_model_version("one", "s3://bucket/two", tags={"deltadex.state": "failed", "team": "legal"})
    assert "one/2" in try_rights(registry)
    assert registry.read("one", 2).tags == {"deltadex.state": "failed", "team": "legal"}
    log_in(*OTHER)
    with pytest.raises(RegistryError) as forbidden:
        try_rights(registry)
    assert "EDIT" in forbidden.value.hint
    log_in("admin", "wrong")
    with pytest.raises(RegistryError) as unknown:
        registry.read("one", 1)
    assert not unknown.value.retryable
    assert "MLFLOW_TRACKING_PASSWORD" in unknown.value.hint
