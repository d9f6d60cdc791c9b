"""Publication of the heads of log and ownership history to the witnesses of the settings, by the watcher."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from deltadex.settings import Settings
from deltadex.store import clock
from deltadex.store.database import Database, Transaction
from deltadex.witness import queries
from deltadex.witness.compare import FAILURES, STAMPED, ask, compare, failure_text
from deltadex.witness.configured import witnesses_of
from deltadex.witness.head import LogHead
from deltadex.witness.kinds import Witness
from deltadex.witness.queries import LastEntry, WitnessState

#: A head that has not changed is published again after so long, to show that the log was still whole.
_AGAIN = timedelta(days=1)
#: Pause after a failed attempt, and the longest one; it doubles with each.
_PAUSE, _LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=10)

log = logging.getLogger(__name__)


def publish(settings: Settings, database: Database, *, at_once: bool = False) -> int:
    """Publish the log's head where it is due; return the number of witnesses that took it.

    It is due where it or the ownership history has changed, and once a day. A witness that fails is tried again later
    with the head of that time, which proves all entries that the earlier ones do. Two processes at once publish a head
    twice, which does no harm.

    Parameters
    ----------
    at_once
        Publish to every witness now.

    Raises
    ------
    SettingsError
        A witness of the settings can't be read.
    StoreError
        Postgres is unavailable.
    """
    if not settings.witnesses:
        return 0
    witnesses = witnesses_of(settings)
    last, states, now = database.run(partial(_present, registry=settings.registry))
    due = [one for one in witnesses if at_once or is_due(one, states.get(one.name), last=last, now=now)]
    head = database.run(partial(queries.present_head, registry=settings.registry)) if last and due else None
    if head is None:
        return 0
    taken = 0
    for witness in due:
        published = _publish(database, witness, head)
        taken += published is not None
        head = published or head
    return taken


def _present(tx: Transaction, registry: str) -> tuple[LastEntry | None, dict[str, WitnessState], datetime]:
    return queries.last_entry(tx), queries.states(tx, registry), clock.now(tx)


def is_due(witness: Witness, state: WitnessState | None, *, last: LastEntry | None, now: datetime) -> bool:
    """Return True if a head is to be published to a witness now.

    Parameters
    ----------
    last
        The log's last entry; None if it has none.
    """
    if last is None:
        return False
    if state is None or state.tried_at is None:
        return True
    if state.error:
        pause = min(_PAUSE * (1 << min(state.attempts - 1, 16)), _LONGEST_PAUSE)
        return now >= state.tried_at + pause
    if state.published_at is None:
        return True
    # An entry of a later time, as after a clock was set back, must not be published in every round.
    has_owned = last.owned_at is not None and state.published_at <= last.owned_at <= now
    is_same = state.hash == last.hash and not has_owned
    least = max(_AGAIN, witness.least_pause) if is_same else witness.least_pause
    return now >= state.published_at + least


def _publish(database: Database, witness: Witness, head: LogHead) -> LogHead | None:
    """Publish to one witness and record the outcome; return the head as others shall have it, or None."""
    registry, name = head.registry, witness.name
    try:
        published = witness.publish(head)
    except FAILURES as error:
        text = failure_text(error)
        log.warning("head not published witness=%s error=%r", name, text)
        database.run(partial(queries.failed, registry=registry, name=name, error=text))
        return None
    stamps = {authority: answer for authority, answer in published.stamps.items() if authority not in head.stamps}

    caution = witness.caution()

    def record(tx: Transaction) -> None:
        queries.published(tx, head, name, caution=caution)
        queries.keep_stamps(tx, head, stamps)

    database.run(record)
    log.info("head published witness=%s entries=%d hash=%s", name, head.entries, head.hash[:12])
    return published


def compare_with_witnesses(settings: Settings, database: Database) -> Sequence[str]:
    """Ask all witnesses, compare log and ownership history with what they hold, record and return the contradictions.

    Raises
    ------
    SettingsError
        A witness of the settings can't be read.
    StoreError
        Postgres is unavailable.
    """
    registry, witnesses = settings.registry, witnesses_of(settings)
    names = [STAMPED, *(witness.name for witness in witnesses)]
    database.run(partial(queries.forget_others, registry=registry, names=names))
    if not witnesses:
        return ()
    states = database.run(partial(queries.states, registry=registry))
    answers = ask(witnesses, registry, published=states)

    def record(tx: Transaction) -> list[str]:
        head_comparisons = compare(tx, registry, answers)
        for one in head_comparisons:
            if not one.error:
                queries.compared(tx, registry, one.witness, contradiction=one.problem)
        return [f"{one.witness}: {one.problem}" for one in head_comparisons if one.problem]

    found = database.run(record)
    for text in found:
        log.error("the log contradicts a witness: %s", text)
    return found
