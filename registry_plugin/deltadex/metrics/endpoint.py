"""The pages of the watcher that machines read: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes.

Numbers of all workers are in the store, so this one page has those of a whole registry. A worker's own probe is
Prefect's: `prefect worker start --with-healthcheck`.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deltadex.errors import DeltadexError
from deltadex.metrics import queries
from deltadex.metrics.queries import Numbers
from deltadex.settings import Settings
from deltadex.store.database import Database

#: Age of the last successful poll, in polls, from which the watcher is not ready, but no less than this many seconds.
_MISSED_POLLS = 5
_FEWEST_SECONDS = 60.0
_MOST_REQUESTS = 16

log = logging.getLogger(__name__)


class StoreCollector(Collector):
    """Reads a registry's numbers from the store at each scrape; while Postgres is away, only says so."""

    def __init__(self, database: Database, registry: str) -> None:
        self._database = database
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; none has the name of a model, a person or a base."""
        started = time.perf_counter()
        try:
            numbers = self._database.run(lambda tx: queries.read(tx, self._registry))
        except DeltadexError as error:
            log.warning("no numbers error=%r", error.message)
            numbers = None
        yield _gauge("deltadex_database_up", "Whether Postgres answered.", float(numbers is not None))
        yield _gauge("deltadex_database_seconds", "How long it took to answer.", time.perf_counter() - started)
        if numbers is not None:
            yield from _metrics(numbers)


def _metrics(numbers: Numbers) -> Iterator[Metric]:
    versions = GaugeMetricFamily("deltadex_versions", "Model versions.", labels=["state", "queue"])
    for (state, queue), count in numbers.versions.items():
        versions.add_metric([state, queue], count)
    yield versions
    oldest = GaugeMetricFamily(
        "deltadex_oldest_version_seconds", "Age of the oldest version that awaits an outcome.", labels=["queue"]
    )
    for queue, seconds in numbers.oldest_seconds.items():
        oldest.add_metric([queue], seconds)
    yield oldest
    yield _gauge("deltadex_open_shards", "Shards that wait or run.", numbers.open_shards)
    if numbers.poll_age_seconds is not None:
        yield _gauge("deltadex_poll_age_seconds", "Time since the last poll of MLflow.", numbers.poll_age_seconds)
    witnesses = GaugeMetricFamily("deltadex_witnesses", "Witnesses of the decision log.", labels=["state"])
    for state_of_witness, count in numbers.witnesses.items():
        witnesses.add_metric([state_of_witness], count)
    yield witnesses
    steps = CounterMetricFamily("deltadex_steps", "Steps done, by all workers.", labels=["step"])
    seconds_spent = CounterMetricFamily("deltadex_step_seconds", "Time spent in steps.", labels=["step"])
    read = CounterMetricFamily("deltadex_step_bytes", "Size of the weights that steps read.", labels=["step"])
    errors = CounterMetricFamily("deltadex_errors", "Errors with which attempts ended, by class.", labels=["error"])
    for work in numbers.work:
        if work.kind == "error":
            errors.add_metric([work.name], work.count)
        else:
            steps.add_metric([work.name], work.count)
            seconds_spent.add_metric([work.name], work.seconds)
            read.add_metric([work.name], work.bytes)
    yield from (steps, seconds_spent, read, errors)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def pages(database: Database, settings: Settings, is_alive: Callable[[], bool]) -> Starlette:
    """Return the web application.

    Parameters
    ----------
    is_alive
        Whether the watcher still goes round.
    """
    collectors = CollectorRegistry()
    collectors.register(StoreCollector(database, settings.server))
    ProcessCollector(registry=collectors)
    most_seconds = max(_FEWEST_SECONDS, _MISSED_POLLS * settings.watch.poll_seconds)

    def metrics(_: Request) -> Response:
        return Response(generate_latest(collectors), media_type=CONTENT_TYPE_LATEST)

    def healthz(_: Request) -> Response:
        return _verdict("" if is_alive() else "the watcher stands still")

    def readyz(_: Request) -> Response:
        # Without reasons from the store: they name models and addresses.
        try:
            age = database.run(lambda tx: queries.poll_age_seconds(tx, settings.server))
        except DeltadexError:
            return _verdict("Postgres does not answer")
        return _verdict("" if age is not None and age < most_seconds else "MLflow was not read for too long")

    routes = [Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
    return Starlette(routes=routes)


def _verdict(problem: str) -> Response:
    return JSONResponse({"status": problem or "ok"}, status_code=503 if problem else 200)


@contextmanager
def serving(database: Database, settings: Settings, is_alive: Callable[[], bool]) -> Iterator[None]:
    """Serve the pages from a thread during the block; without a port, or if the port is in use, serve none."""
    host, port = settings.metrics.host, settings.metrics.port
    if not port:
        yield
        return
    try:
        listener = socket.create_server((host, port), family=_family(host, port))
    except OSError as error:
        # Not worth a watcher. Another one may be running here.
        log.warning("no metrics at %s:%d error=%r: set DELTADEX_METRICS__PORT", host, port, error.strerror)
        yield
        return
    config = uvicorn.Config(
        pages(database, settings, is_alive), log_level="warning", lifespan="off", ws="none",
        limit_concurrency=_MOST_REQUESTS, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _family(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
