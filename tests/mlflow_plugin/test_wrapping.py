"""Other apps of MLflow's server, named by a setting: found, wrapped, and asked who the caller is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from flask import Flask, g

from deltadex.errors import AccessDenied, SettingsError
from deltadex.mlflow_plugin.identities import (
    IDENTITIES,
    Caller,
    FlaskIdentity,
    Identity,
    OidcAuthIdentity,
    ProxyIdentity,
    identify,
)
from deltadex.mlflow_plugin.wrapping import wrapped_app
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.mlflow_plugin import fastapi_login
from tests.stored import REGISTRY, embedded

ROOT = Path(__file__).parents[2]
APPS = """[mlflow.app]
silent = tests.mlflow_plugin.fastapi_login:create_app
telling = tests.mlflow_plugin.flask_login:app
"""
HEADER = "X-Forwarded-User"

#: Asks MLflow's app for the models, with some headers at a time: gives status and answer of each.
Ask = Callable[..., list[tuple[int, str]]]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a package that registers two apps."""
    info = tmp_path / "company_login-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: company-login\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(APPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def environment(installed: Path, database: Database) -> dict[str, str]:
    """Variables of a server whose access file lists Ann, who sees one of two models."""
    with database.transaction() as tx:
        embedded(tx, "payroll", np.array([1.0, 0.1]))
        embedded(tx, "sql-writer", np.array([1.0, 0.0]))
    people = installed / "people.json"
    people.write_text(json.dumps({"people": {"ann": {"role": "viewer", "models": ["sql-*"]}}}))
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT), *sys.path]),
        "DELTADEX_ACCESS__FILE": str(people),
        "DELTADEX_DATABASE__URL": database.url,
        "DELTADEX_DATA_DIR": str(installed),
        "DELTADEX_REGISTRY": REGISTRY,
    }


def run(environment: Mapping[str, str], server: str, *asked: list[tuple[str, str]]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.mlflow_plugin.asking", json.dumps(asked)],
        env={**environment, "_MLFLOW_SGI_NAME": server},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def ask(environment: Mapping[str, str], server: str, *asked: list[tuple[str, str]]) -> list[tuple[int, str]]:
    done = run(environment, server, *asked)
    assert done.returncode == 0, done.stderr
    return [(status, text) for status, text in json.loads(done.stdout)]


def test_an_app_that_tells_nobody_shows_nothing_and_the_refusal_names_the_setting(environment: dict[str, str]) -> None:
    forged = [("Authorization", fastapi_login.PASSWORD), (HEADER, "ann")]
    [outside, inside] = ask(environment | {"DELTADEX_MLFLOW_APP": "silent"}, "uvicorn", [(HEADER, "ann")], forged)
    assert outside == (401, "Log in.")
    assert inside[0] == 403
    assert "DELTADEX_MLFLOW_USER_HEADER" in inside[1]
    assert "sql-writer" not in inside[1]


def test_a_proxys_header_counts_only_by_setting_and_once(environment: dict[str, str]) -> None:
    environment |= {"DELTADEX_MLFLOW_APP": "silent", "DELTADEX_MLFLOW_USER_HEADER": HEADER}
    password = ("Authorization", fastapi_login.PASSWORD)
    told, twice, mallory = [password, (HEADER, "ann")], [(HEADER, "mallory"), password, (HEADER, "ann")], [password]
    answers = ask(environment, "uvicorn", told, twice, mallory, [(HEADER, "ann")])
    assert [status for status, _ in answers] == [200, 403, 403, 401]
    assert [one["name"] for one in json.loads(answers[0][1])["models"]] == ["sql-writer"]
    assert HEADER in answers[2][1]


def test_an_app_that_keeps_mlflows_convention_is_believed(environment: dict[str, str]) -> None:
    people = [[("Authorization", word)] for word in ("password of ann", "password of zoe", "a robot's", "wrong")]
    answers = ask(environment | {"DELTADEX_MLFLOW_APP": "telling"}, "gunicorn", *people)
    assert [status for status, _ in answers] == [200, 403, 403, 401]
    assert [one["name"] for one in json.loads(answers[0][1])["models"]] == ["sql-writer"]
    assert "zoe has no role here" in answers[1][1]
    assert "mlflow_authenticated_user" in answers[2][1]


@pytest.mark.parametrize(("app", "server"), [("telling", "uvicorn"), ("silent", "gunicorn")])
def test_an_app_for_another_server_is_an_error_and_never_served_half(
    environment: dict[str, str], app: str, server: str
) -> None:
    done = run(environment | {"DELTADEX_MLFLOW_APP": app}, server)
    assert done.returncode == 1
    assert f"{server} runs" in done.stderr
    assert "--gunicorn-opts" in done.stderr


def test_mlflow_does_not_start_with_an_app_that_is_not_there(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "deltadex", "--port", "1"]
    environment |= {"DELTADEX_MLFLOW_APP": "oidc", "MLFLOW_BACKEND_STORE_URI": "sqlite://"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("Error: DELTADEX_MLFLOW_APP: no installed package has an app 'oidc'.")
    assert said.endswith("Installed apps: basic-auth, silent, telling.")


def test_an_unknown_name_lists_what_is_installed(installed: Path) -> None:
    with pytest.raises(SettingsError, match="'oidc'") as caught:
        wrapped_app(Settings(mlflow_app="oidc"))
    assert caught.value.hint == "Installed apps: basic-auth, silent, telling."
    assert wrapped_app(Settings()) is None


@pytest.mark.parametrize("name", ["deltadex", "deltadex-basic-auth"])
def test_deltadex_does_not_wrap_itself(name: str) -> None:
    with pytest.raises(SettingsError, match="can't wrap itself") as caught:
        wrapped_app(Settings(mlflow_app=name))
    assert "basic-auth" in caught.value.hint


def test_a_header_does_not_go_before_a_login() -> None:
    with pytest.raises(SettingsError, match="basic-auth tells who asks"):
        wrapped_app(Settings(mlflow_app="basic-auth", mlflow_user_header=HEADER))


@pytest.mark.parametrize("identity", [FlaskIdentity(), ProxyIdentity(HEADER), IDENTITIES["basic-auth"]])
def test_nobody_is_a_refusal_and_never_an_anonymous_viewer(identity: Identity) -> None:
    app = Flask("nobody")
    with app.test_request_context(), pytest.raises(AccessDenied) as caught:
        identify(identity)
    assert caught.value.hint
    with app.test_request_context():
        assert identify(None) is None


@pytest.mark.parametrize("told", ["", None, 7, "ann"])
def test_only_a_name_is_a_caller(told: object) -> None:
    with Flask("told").test_request_context():
        g.mlflow_authenticated_user = told
        assert FlaskIdentity().caller() == (Caller("ann") if told == "ann" else None)


def test_an_identity_for_each_known_app_has_the_name_of_its_entry_point() -> None:
    assert set(IDENTITIES) == {"basic-auth", "oidc-auth", "kubernetes-auth"}
    assert isinstance(IDENTITIES["oidc-auth"], OidcAuthIdentity)
