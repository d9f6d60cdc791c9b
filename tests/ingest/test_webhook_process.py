"""The webhook receiver as a process: clients that hold, flood or kill it keep no delivery of MLflow's out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPException

import psutil
import pytest

from deltadex.errors import StackError
from deltadex.ingest import webhook_process
from deltadex.ingest.webhook_process import receiving
from deltadex.setting_groups import WebhookSettings
from tests.conftest import unused_port
from tests.registry.test_webhook import SECRET, signed


@pytest.fixture
def settings() -> WebhookSettings:
    return WebhookSettings(secret=SECRET, port=unused_port(), max_connections=20, max_seconds=2, max_per_second=20)


@pytest.fixture
def wake(settings: WebhookSettings) -> Iterator[threading.Event]:
    woken = threading.Event()
    with receiving(settings, woken):
        yield woken


def deliver(settings: WebhookSettings, delivery: str, *, secret: str = SECRET) -> int:
    headers = signed(b"{}", at=time.time(), delivery=delivery, secret=secret)
    return post(settings, b"{}", headers)


def post(settings: WebhookSettings, body: bytes, headers: dict[str, str]) -> int:
    with closing(HTTPConnection("127.0.0.1", settings.port, timeout=10)) as connection:
        connection.request("POST", "/webhook", body, headers)
        return connection.getresponse().status


def receiver() -> psutil.Process:
    running = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    [process] = [one for one in running if "deltadex.registry.receiver" in one.cmdline()]
    return process


def is_woken(wake: threading.Event) -> bool:
    return wake.wait(5)


def test_a_delivery_wakes_the_watcher(settings: WebhookSettings, wake: threading.Event) -> None:
    wake.clear()
    assert deliver(settings, "one", secret="wrong") == 401
    assert not wake.wait(0.5)
    assert deliver(settings, "two") == 200
    assert is_woken(wake)


def test_a_timestamp_that_is_no_time_is_too_old(settings: WebhookSettings, wake: threading.Event) -> None:
    for at in ("nan", "inf", "-inf"):
        assert post(settings, b"{}", _signed_as(at)) == 401


def test_who_only_holds_connections_open_keeps_no_delivery_out(
    settings: WebhookSettings, wake: threading.Event
) -> None:
    """Slow loris: connections that send their headers a byte at a time, more than the receiver takes."""
    with ExitStack() as stack:
        held = [_connect(stack, settings) for _ in range(3 * settings.max_connections)]
        wake.clear()
        started = time.monotonic()
        assert deliver(settings, "beside") == 200
        assert is_woken(wake)
        assert time.monotonic() - started < 2
        assert len(receiver().net_connections("tcp")) <= settings.max_connections + 2
        deadline = time.monotonic() + 10
        while any(_is_open(one) for one in held):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_flood_is_refused_and_leaves_the_receiver_standing(settings: WebhookSettings, wake: threading.Event) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: _status(settings, f"d{number}"), range(400)))
    assert answers.count(429) > 200
    assert receiver().memory_info().rss < 200e6
    time.sleep(2)  # the bucket fills again
    wake.clear()
    assert deliver(settings, "after") == 200
    assert is_woken(wake)


def test_a_large_header_or_body_is_refused(settings: WebhookSettings, wake: threading.Event) -> None:
    assert post(settings, b"x" * 100_000, {}) == 413
    sent = 0
    with ExitStack() as stack, suppress(OSError):  # it is cut off while it sends
        connection = _connect(stack, settings)
        while sent < 10 << 20:
            sent += connection.send(b"x" * 10_000)
    assert sent < 10 << 20


def test_a_receiver_that_dies_is_started_again(
    settings: WebhookSettings, wake: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_process, "_RESTART_SECONDS", 0.1)
    first = receiver()
    first.kill()
    wake.clear()
    assert wake.wait(20), "it says that it listens"
    assert receiver() != first
    assert deliver(settings, "again") == 200


def test_the_receiver_knows_nothing_but_its_secret(settings: WebhookSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "DELTADEX_DATABASE__URL",
        "MLFLOW_TRACKING_PASSWORD",
        "PREFECT_API_AUTH_STRING",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.setenv(name, "canary")
    with receiving(settings, threading.Event()):
        assert "canary" not in receiver().environ().values()
        assert SECRET not in " ".join([*receiver().environ().values(), *receiver().cmdline()])


def test_a_port_that_is_taken_is_an_error(settings: WebhookSettings, wake: threading.Event) -> None:
    with pytest.raises(StackError, match="cannot bind"), receiving(settings, threading.Event()):
        pass


def _status(settings: WebhookSettings, delivery: str) -> int:
    try:
        return deliver(settings, delivery)
    except (OSError, HTTPException):  # it was the oldest connection
        return 0


def _signed_as(at: str) -> dict[str, str]:
    headers = signed(b"{}", at=0)
    digest = hmac.new(SECRET.encode(), f"d1.{at}.".encode() + b"{}", hashlib.sha256).digest()
    return headers | {
        "x-mlflow-timestamp": at,
        "x-mlflow-signature": "v1," + base64.b64encode(digest).decode(),
    }


def _connect(stack: ExitStack, settings: WebhookSettings) -> socket.socket:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", settings.port), timeout=5))
    connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    return connection


def _is_open(connection: socket.socket) -> bool:
    """Send one more byte of the header, as such a client does."""
    try:
        connection.sendall(b"x")
        connection.settimeout(0.05)
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False
