"""The pages for Prometheus and for probes, over HTTP, from a real store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deltadex.ingest import queries as watchers
from deltadex.metrics import queries as metrics
from deltadex.metrics.endpoint import serving
from deltadex.setting_groups import MetricsSettings
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.witness import queries as witnesses
from tests.conftest import unused_port
from tests.stored import discovered

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings() -> Settings:
    return Settings(registry="acme", metrics=MetricsSettings(port=unused_port()))


@pytest.fixture
def url(database: Database, settings: Settings) -> Iterator[str]:
    with serving(database, settings, is_alive=lambda: True):
        yield f"http://127.0.0.1:{settings.metrics.port}"


def numbers(url: str) -> dict[tuple[str, ...], float]:
    """Return each sample's value by its name and the values of its labels, these in the order of their names."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {(one.name, *(one.labels[name] for name in sorted(one.labels))): one.value for one in samples}


def test_an_empty_store_has_numbers(url: str) -> None:
    found = numbers(url)
    assert found["deltadex_database_up",] == 1
    assert found["deltadex_versions", "fresh", "embedded"] == 0
    assert found["deltadex_oldest_version_seconds", "backfill"] == 0
    assert "process_resident_memory_bytes" in {name for name, *_ in found}


def test_witnesses_that_fail_or_contradict_the_log_are_counted(url: str, database: Database) -> None:
    with database.transaction() as tx:
        witnesses.failed(tx, "acme", "folder:/mnt/heads", error="away")
        witnesses.compared(tx, "acme", "s3://bucket", contradiction="The log was cut")
        witnesses.compared(tx, "other", "s3://bucket", contradiction="The log was cut")
    found = numbers(url)
    states = ("published", "failing", "contradicting")
    assert [found["deltadex_witnesses", state] for state in states] == [0, 1, 1]


def test_what_waits_and_what_was_done_is_counted_without_names(url: str, database: Database) -> None:
    with database.transaction() as tx:
        discovered(tx, "secret-model", 1)
        discovered(tx, "secret-model", 2)
        metrics.add_steps(tx, "acme", [{"fetch": 1.5, "embed": 2}, {"fetch": 0.5}], read_bytes=700)
        metrics.add_steps(tx, "acme", [{"embed": 3}], read_bytes=0)
        metrics.add_error(tx, "acme", "UnsupportedCheckpoint")
        metrics.add_error(tx, "other", "UnsupportedCheckpoint")
    found = numbers(url)
    assert found["deltadex_versions", "fresh", "discovered"] == 2
    assert found["deltadex_oldest_version_seconds", "fresh"] > 0
    assert (found["deltadex_steps_total", "embed"], found["deltadex_step_seconds_total", "embed"]) == (2, 5)
    assert (found["deltadex_steps_total", "fetch"], found["deltadex_step_bytes_total", "fetch"]) == (2, 700)
    assert found["deltadex_errors_total", "UnsupportedCheckpoint"] == 1
    assert "secret" not in httpx.get(f"{url}/metrics").text


def test_it_is_ready_once_mlflow_was_read(url: str, database: Database) -> None:
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert httpx.get(f"{url}/readyz").status_code == 503
    with database.transaction() as tx:
        watchers.record_poll(tx, "acme", watermark_ms=1)
    assert httpx.get(f"{url}/readyz").status_code == 200
    with database.transaction() as tx:
        tx.execute("update watchers set polled_at = now() - interval '10 minutes'")
    assert httpx.get(f"{url}/readyz").json() == {"status": "MLflow was not read for too long"}


def test_without_postgres_it_lives_but_is_not_ready(settings: Settings) -> None:
    away = Database(f"postgresql://nobody@127.0.0.1:{unused_port()}/none")
    with serving(away, settings, is_alive=lambda: True):
        url = f"http://127.0.0.1:{settings.metrics.port}"
        assert numbers(url)["deltadex_database_up",] == 0
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/readyz").json() == {"status": "Postgres does not answer"}


def test_a_watcher_that_stands_still_is_not_healthy(database: Database, settings: Settings) -> None:
    with serving(database, settings, is_alive=lambda: False):
        assert httpx.get(f"http://127.0.0.1:{settings.metrics.port}/healthz").status_code == 503


def test_a_port_in_use_stops_no_watcher_and_no_port_serves_nothing(
    url: str, database: Database, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(database, settings, is_alive=lambda: False):
        assert "DELTADEX_METRICS__PORT" in caplog.text
        assert httpx.get(f"{url}/healthz").status_code == 200  # of the first one
    with serving(database, settings.model_copy(update={"metrics": MetricsSettings(port=0)}), is_alive=lambda: True):
        pass


def test_the_grafana_dashboard_asks_for_metrics_that_exist(url: str, database: Database) -> None:
    with database.transaction() as tx:
        watchers.record_poll(tx, "acme", watermark_ms=1)
        metrics.add_steps(tx, "acme", [{"fetch": 1, "embed": 1}], read_bytes=1)
        metrics.add_error(tx, "acme", "UnsupportedCheckpoint")
    panels = json.loads((ROOT / "deploy" / "grafana.json").read_text())["panels"]
    asked = set(re.findall(r"deltadex_\w+", str([panel["targets"] for panel in panels])))
    assert len(asked) > 8
    assert asked <= {name for name, *_ in numbers(url)}


def test_the_writer_may_count_and_a_reader_may_read(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute("set local role deltadex_writer")
        metrics.add_steps(tx, "acme", [{"embed": 1}], read_bytes=0)
    with database.transaction() as tx:
        tx.execute("set local role deltadex_reader")
        assert [one.count for one in metrics.read(tx, "acme").work] == [1]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            metrics.add_steps(tx, "acme", [{"embed": 1}], read_bytes=0)
