"""The limit on requests to MLflow, on MLflow's own client and a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deltadex.registry.client import Registry
from deltadex.registry.pace import Pace, limit_requests


@pytest.fixture(autouse=True)
def lifted() -> Iterator[None]:
    yield
    limit_requests(None)


def test_the_requests_of_all_threads_keep_the_limit_together(registry: Registry) -> None:
    limit_requests(20)
    started = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: registry.check(), range(9)))
    assert time.monotonic() - started >= 8 / 20, "the first of nine goes at once"


def test_a_pause_saves_up_no_requests() -> None:
    pace = Pace(10)
    pace.wait()
    time.sleep(0.3)
    started = time.monotonic()
    pace.wait()
    pace.wait()
    assert time.monotonic() - started >= 0.1
