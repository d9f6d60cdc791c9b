"""TLS with a private authority between Deltadex and MLflow, Postgres and Prefect, and what a wrong one is told as."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prefect.settings import PREFECT_API_SSL_CERT_FILE, temporary_settings
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typer.testing import CliRunner

from deltadex.certificates import certificate_fault
from deltadex.cli import app as command_line
from deltadex.errors import RegistryError, SchedulerError, StoreError
from deltadex.registry.client import Registry
from deltadex.scheduler import load_scheduler
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from tests.authority import Authority, behind_tls


@dataclass(frozen=True)
class Company:
    """Three services whose certificates one authority signed, and another authority that signed none."""

    mlflow: str
    prefect: str
    postgres: str
    authority: Path
    stranger: Path

    def database(self, **options: str) -> Database:
        return Database(make_conninfo(self.postgres, **options))


@pytest.fixture(scope="module")
def company(servers: Settings, postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("authority")
    authority, stranger = Authority.new(folder, "company"), Authority.new(folder, "stranger")
    of_server = authority.server(folder)
    ports = [urlsplit(url).port or 0 for url in (servers.mlflow_uri, servers.prefect_url)]
    with ExitStack() as stack:
        mlflow, prefect = [stack.enter_context(behind_tls(port, *of_server)) for port in ports]
        port = int(conninfo_to_dict(postgres_url)["port"])
        port = stack.enter_context(behind_tls(port, *of_server, is_postgres=True))
        postgres = make_conninfo(postgres_url, host="127.0.0.1", port=port)
        yield Company(
            f"https://127.0.0.1:{mlflow}",
            f"https://127.0.0.1:{prefect}/api",
            postgres,
            authority.file,
            stranger.file,
        )


@pytest.fixture(autouse=True)
def _no_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.parametrize("setting", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"])
def test_mlflow_s_certificate_is_checked_by_the_authority_of_either_setting(
    company: Company, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    registry = Registry(company.mlflow, name="acme")
    monkeypatch.setenv(setting, str(company.authority))
    assert registry.check().endswith(f"encrypted, certificate checked by {setting}={company.authority}")

    monkeypatch.setenv(setting, str(company.stranger))
    with pytest.raises(RegistryError, match="its certificate is not trusted") as caught:
        registry.check()
    assert f"checked by {setting}={company.stranger}" in caught.value.hint
    assert not caught.value.retryable

    monkeypatch.setenv(setting, "/etc/no-such.pem")
    with pytest.raises(RegistryError, match=r"file of trusted authorities is missing: /etc/no-such\.pem"):
        registry.check()


def test_a_certificate_for_another_name_is_told_apart(
    servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.new(tmp_path, "company")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    port = urlsplit(servers.mlflow_uri).port or 0
    with (
        behind_tls(port, *authority.server(tmp_path, host="mlflow.example")) as listening,
        pytest.raises(RegistryError, match=r"not accepted: IP address mismatch.*127\.0\.0\.1"),
    ):
        Registry(f"https://127.0.0.1:{listening}", name="acme").check()


def test_postgres_is_reached_over_tls_and_its_certificate_checked(company: Company) -> None:
    with company.database(sslmode="verify-full", sslrootcert=str(company.authority)) as database:
        migrate(database)
        says = database.check()
        assert says.endswith(f"encrypted, certificate checked (sslmode=verify-full, sslrootcert={company.authority})")
        assert database.run(lambda tx: tx.execute("select 1").fetchone()) == (1,)
    with company.database(sslmode="require") as database:
        assert database.check().endswith("encrypted, certificate not checked (sslmode=require)")


@pytest.mark.parametrize(
    ("root", "reason"),
    [("stranger", "certificate verify failed"), ("missing", r"root certificate file .*missing.* does not exist")],
)
def test_a_wrong_authority_for_postgres_is_told_with_the_option(company: Company, root: str, reason: str) -> None:
    file = str(company.stranger if root == "stranger" else company.stranger.with_name("missing"))
    with company.database(sslmode="verify-full", sslrootcert=file) as database:
        for ask in (database.check, lambda: database.run(lambda tx: tx.execute("select 1"))):
            with pytest.raises(StoreError, match=reason) as caught:
                ask()
            assert "sslrootcert" in caught.value.hint
            assert "DELTADEX_DATABASE__" in caught.value.hint
            assert not caught.value.retryable


def test_prefect_s_certificate_is_checked_by_its_own_setting(
    company: Company, servers: Settings, tmp_path: Path
) -> None:
    ours = {"prefect_api_url": company.prefect, "work_pool": f"tls-{tmp_path.name}"}
    scheduler = load_scheduler(servers.model_copy(update=ours))
    with temporary_settings({PREFECT_API_SSL_CERT_FILE: str(company.authority)}):
        scheduler.deploy()
        with pytest.raises(SchedulerError, match="No worker is online"):
            scheduler.check()
    for file, reason in (
        (company.stranger, "certificate is not trusted"),
        (tmp_path / "none", "authorities is missing"),
    ):
        with (
            temporary_settings({PREFECT_API_SSL_CERT_FILE: str(file)}),
            pytest.raises(SchedulerError, match=reason) as caught,
        ):
            scheduler.check()
        assert f"PREFECT_API_SSL_CERT_FILE={file}" in caught.value.hint
        assert not caught.value.retryable


def test_the_doctor_says_how_each_connection_is_checked(
    company: Company, servers: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert servers.prefect_auth is not None
    monkeypatch.setenv("DELTADEX_PREFECT_AUTH", servers.prefect_auth.get_secret_value())
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", company.prefect)
    monkeypatch.setenv("DELTADEX_TRACKING_URI", company.mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(company.authority))
    monkeypatch.setenv(
        "DELTADEX_DATABASE__URL",
        make_conninfo(company.postgres, sslmode="verify-full", sslrootcert=str(company.stranger)),
    )
    monkeypatch.setattr("deltadex.cli.doctor._FIRST_POLL_SECONDS", 0.0)
    done = CliRunner().invoke(command_line, ["doctor", "--json"])
    checks = {one["name"]: one for one in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert "certificate checked by MLFLOW_TRACKING_SERVER_CERT_PATH" in checks["registry"]["says"]
    assert not checks["store"]["is_healthy"]
    assert "sslrootcert" in checks["store"]["hint"]
    assert "certificate is not trusted" in checks["scheduler"]["says"]
    assert "PREFECT_API_SSL_CERT_FILE" in checks["scheduler"]["hint"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)",
         "its certificate is not accepted: certificate has expired"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)",
         "it asks for a client certificate"),
        ("Connection refused", None),
    ],
)  # fmt: skip
def test_faults_of_certificates_are_read_from_errors(text: str, fault: str | None) -> None:
    assert certificate_fault(text) == fault
