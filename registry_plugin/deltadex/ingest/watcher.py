"""The watcher process: polls the registry, serves MLflow's webhook, and reconciles.

Only one watcher of a registry is active; others stand by until its lock is free.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from deltadex.advise.submit import submit_asked as submit_advice
from deltadex.app import App
from deltadex.errors import DeltadexError, StoreError
from deltadex.find.submit import submit_asked as submit_searches
from deltadex.ingest import discovery, machines
from deltadex.ingest import queries as watchers
from deltadex.ingest.analyses import submit_analyses
from deltadex.ingest.reconcile import reconcile
from deltadex.ingest.submit import submit_waiting
from deltadex.ingest.tenants import Tenants
from deltadex.ingest.webhook_process import receiving
from deltadex.metrics.endpoint import serving
from deltadex.notifications.owners import tell_owners
from deltadex.replay.submit import submit_asked as submit_replays
from deltadex.safety.submit import submit_asked as submit_safety
from deltadex.store.database import Database
from deltadex.store.locks import SessionLock
from deltadex.taught.submit import submit_asked as submit_taught
from deltadex.witness.publish import compare_with_witnesses, publish

#: Interval between reconciliations of flow runs, reviews and analyses.
_RECONCILE_SECONDS = 60
#: A registry that is compared quickly is compared every minute, so that a moved alias or a changed tag is seen soon; a
#: large one after so many times as long as it took, up to the setting.
_SHORTEST_SWEEP_PAUSE, _TIMES_AS_LONG = 60.0, 20
#: Duration of a round after which something hangs; a sweep of a large registry takes minutes.
_STILL_SECONDS = 1800.0
#: Interval between comparisons of the decision log with its witnesses; the first is at the start.
_COMPARE_SECONDS = 24 * 3600.0

log = logging.getLogger(__name__)


def watch(app: App, stop: threading.Event) -> None:
    """Poll until `stop` is set. Errors are logged, shown on the dashboard, and retried in the next round.

    The watched workspaces take turns, each with its own tasks: one that fails keeps no other from its turn.
    """
    wake = threading.Event()
    tenants = _Tenants(app)
    lock = SessionLock(app.database, f"watch:{app.registry.name}")
    began = time.monotonic()

    def is_alive() -> bool:
        return time.monotonic() - began < _STILL_SECONDS

    # A connection of its own: requests for the pages take none from the watcher.
    for_pages = Database(app.database.url, pool_size=1, role=app.settings.database.role)
    with for_pages, serving(for_pages, app.settings, is_alive), receiving(app.settings.webhook, wake), lock:
        while not stop.is_set():
            began = time.monotonic()
            is_woken = wake.is_set()
            wake.clear()
            try:
                if lock.hold():
                    tenants.take_turns(stop, is_woken=is_woken)
            except DeltadexError as error:
                _report(app, error)
            _wait(wake, stop, min(app.settings.watch.poll_seconds, _RECONCILE_SECONDS))


class _Pause:
    """A minimum interval between two successful runs of a task."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next = time.monotonic()

    def is_over(self) -> bool:
        return time.monotonic() >= self._next

    def begin(self) -> None:
        self._next = time.monotonic() + self.seconds


class _Tenants:
    """Rounds of each watched workspace."""

    def __init__(self, app: App) -> None:
        self._tenants, self._known = Tenants(app), list[App]()
        self._rounds: dict[str, _Rounds] = {}
        self._before_reading = _Pause(_RECONCILE_SECONDS)

    def take_turns(self, stop: threading.Event, *, is_woken: bool) -> None:
        """Run the tasks of each workspace that are due; new workspaces are found once a minute."""
        if not self._known or self._before_reading.is_over():
            self._known = self._tenants.read()
            self._before_reading.begin()
        for app in self._known:
            rounds = self._rounds.setdefault(app.registry.name, _Rounds(app))
            try:
                with app.registry.bound():
                    rounds.run(stop, is_woken=is_woken)
            except DeltadexError as error:
                _report(app, error)
            if stop.is_set():
                return


class _Rounds:
    """The watcher's tasks, each with its own interval."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._before_poll = _Pause(app.settings.watch.poll_seconds)
        self._before_sweep = _Pause(app.settings.watch.sweep_seconds)
        self._before_reconciliation = _Pause(_RECONCILE_SECONDS)
        self._before_comparison = _Pause(_COMPARE_SECONDS)
        self._is_away = False

    def run(self, stop: threading.Event, *, is_woken: bool) -> None:
        """Run the tasks that are due; return early if `stop` is set. A task that fails keeps no other from running."""
        app, is_swept = self._app, self._before_sweep.is_over()
        if is_swept:
            discovery.claim(app)
        tasks: list[tuple[Callable[[], object], _Pause | None]] = []
        if is_woken or self._before_poll.is_over():
            tasks.append((self._poll, self._before_poll))
        tasks.append((lambda: self._submit(stop), None))
        tasks += [(lambda: submit_searches(app), None), (lambda: submit_replays(app), None)]
        tasks += [(lambda: submit_advice(app), None), (lambda: submit_safety(app), None)]
        tasks += [(lambda: submit_taught(app), None), (lambda: tell_owners(app), None)]
        if is_swept:
            tasks.append((lambda: machines.resume(app), None))
            tasks.append((self._sweep, self._before_sweep))
        if is_swept or self._before_reconciliation.is_over():
            tasks.append((lambda: reconcile(app), None))
            tasks.append((lambda: submit_analyses(app), self._before_reconciliation))
        if self._before_comparison.is_over():
            tasks.append((lambda: compare_with_witnesses(app.settings, app.database), self._before_comparison))
        tasks.append((lambda: publish(app.settings, app.database), None))
        for task, pause in tasks:
            if stop.is_set():
                return
            try:
                task()
            except DeltadexError as error:
                _report(app, error)
                if error.retryable:
                    continue
            if pause:
                pause.begin()

    def _poll(self) -> None:
        self._is_away = True
        discovery.poll(self._app)
        self._is_away = False

    def _sweep(self) -> None:
        began = time.monotonic()
        discovery.sweep(self._app)
        self._before_sweep.seconds = sweep_pause(time.monotonic() - began, most=self._app.settings.watch.sweep_seconds)

    def _submit(self, stop: threading.Event) -> None:
        """Start flow runs, unless MLflow is away: each would fail, and count as an attempt of its versions."""
        if not self._is_away:
            submit_waiting(self._app, is_stopping=stop.is_set)


def sweep_pause(duration: float, *, most: float) -> float:
    """Return the pause (seconds) after a full comparison with the registry that took so long."""
    return min(most, max(_SHORTEST_SWEEP_PAUSE, _TIMES_AS_LONG * duration))


def _wait(wake: threading.Event, stop: threading.Event, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not (wake.is_set() or stop.is_set()) and time.monotonic() < deadline:
        wake.wait(0.2)


def _report(app: App, error: DeltadexError) -> None:
    """Log an error and show it on the dashboard."""
    log.warning("round failed error=%r hint=%r", error.message, error.hint)
    try:
        text = f"{error.message} {error.hint}".strip()
        app.database.run(lambda tx: watchers.failed(tx, app.registry.name, text))
    except StoreError:
        log.warning("the error could not be recorded: the database is away too")
