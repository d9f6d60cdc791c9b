"""The process of the webhook receiver: started with the watcher, and again whenever it ends."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from deltadex.errors import StackError
from deltadex.setting_groups import WebhookSettings

#: All that the receiver gets of the environment: an attacker who breaks into it finds no credentials there.
_PASSED_VARIABLES = ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LC_ALL")
_RESTART_SECONDS = 5.0
_STOP_SECONDS = 5.0

log = logging.getLogger(__name__)


@contextmanager
def receiving(settings: WebhookSettings, wake: threading.Event) -> Iterator[None]:
    """Run the receiver during the block; each delivery sets `wake`.

    Raises
    ------
    StackError
        The receiver cannot bind its address.
    """
    process = _start(settings)
    if not _output(process).readline():
        _end(process)
        _output(process).close()
        raise StackError(
            f"The webhook receiver cannot bind {settings.host}:{settings.port}",
            hint="Another watcher may be running here; set DELTADEX_WEBHOOK__PORT.",
        )
    stop = threading.Event()
    running = [process]
    thread = threading.Thread(target=_follow, args=(settings, running, wake, stop), name="webhook", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        _end(running[-1])
        thread.join(timeout=_STOP_SECONDS)


def _follow(
    settings: WebhookSettings, running: list[subprocess.Popen[bytes]], wake: threading.Event, stop: threading.Event
) -> None:
    while True:
        with _output(running[-1]) as lines:
            for _ in lines:
                wake.set()
        _end(running[-1])
        if stop.wait(_RESTART_SECONDS):
            return
        log.warning("the webhook receiver ended and is started again; polling goes on")
        running.append(_start(settings))
        if stop.is_set():
            _end(running[-1])


def _start(settings: WebhookSettings) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "deltadex.registry.receiver"],
        env={name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    secret = settings.secret.get_secret_value() if settings.secret else None
    assert process.stdin is not None  # noqa: S101 - a pipe
    with suppress(BrokenPipeError):  # it ended at once: seen where its output is read
        process.stdin.write(json.dumps({**settings.model_dump(mode="json"), "secret": secret}).encode() + b"\n")
        process.stdin.flush()
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the receiver's input, at which it ends; kill it if it does not."""
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None  # noqa: S101 - a pipe
    return process.stdout
