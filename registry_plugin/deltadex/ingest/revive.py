"""Further attempts for versions whose flow run died, up to a limit."""

from __future__ import annotations

import logging
import re

from deltadex.errors import DeltadexError, RegistryError, StoreError
from deltadex.metrics import queries as metrics
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import UNDER_WAY, State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import transitions

#: Reason of an attempt that follows a death; the reason that the dead one stated may follow it.
_DIED = "flow run of attempt {} died"

log = logging.getLogger(__name__)


def revive_dead(tx: Transaction, settings: Settings, row: VersionRow) -> State:
    """Revive a version whose flow run died.

    A run that died before it began has not opened the version's files: the worker, or a service that it needs, is to
    blame, and the version may be tried any number of times.
    """
    has_begun = row.state is State.RUNNING
    state = _revive(tx, settings, row, counts=has_begun)
    metrics.add_error(tx, settings.registry, "died" if has_begun else "died before it began")
    return state


def _revive(tx: Transaction, settings: Settings, row: VersionRow, *, counts: bool) -> State:
    """Requeue a version, or mark it as failed after too many deaths; return the state it is now in.

    One that came to an end meanwhile, or that was requeued, is left alone.

    Parameters
    ----------
    counts
        Whether this death counts.
    """
    now = versions.locked(tx, row.id)
    if now.state not in UNDER_WAY or now.attempt != row.attempt:
        return now.state
    if counts and row.deaths + 1 >= settings.embedding.max_attempts:
        reason, hint = _after_deaths(row)
        transitions.mark_ended(tx, row.id, state=State.FAILED, reason=reason, hint=hint)
        log.error("gave up version=%s deaths=%d", row.label, row.deaths + 1)
        return State.FAILED
    last = _last_reason(row)
    reason = f"{_DIED.format(row.attempt)}{f': {last}' if last else ''}"
    transitions.requeue(tx, row.id, reason=reason, died=True)
    if not counts:
        transitions.forgive(tx, row.id)
    log.warning("revived version=%s after_attempt=%d", row.label, row.attempt)
    return State.DISCOVERED


def try_again(tx: Transaction, settings: Settings, row: VersionRow, error: DeltadexError) -> State:
    """Store the reason of an attempt that failed in passing, and revive the version; return its state.

    It goes alone from now on, unless a service was away: that is no version's fault.
    """
    if not transitions.note_error(tx, row.id, error, attempt=row.attempt):
        return versions.get(tx, row.id).state
    state = _revive(tx, settings, versions.get(tx, row.id), counts=True)
    if isinstance(error, RegistryError | StoreError):
        transitions.rejoin(tx, row.id)
    metrics.add_error(tx, settings.registry, type(error).__name__)
    return state


def _after_deaths(row: VersionRow) -> tuple[str, str]:
    """Return reason and hint for a version whose flow run died too often."""
    times, last = f"its flow run died {row.deaths + 1} times", _last_reason(row)
    if last:
        return f"{last} ({times})", row.hint or "See the worker's log, then `deltadex retry`."
    return f"{times} without an error", "Out of memory is the usual cause: see the worker's log, then `deltadex retry`."


def _last_reason(row: VersionRow) -> str:
    """Return the last reason that an attempt stated; an error has a hint, other remarks have none."""
    died = re.fullmatch(_DIED.format(r"\d+") + "(: (?P<reason>.*))?", row.reason, re.DOTALL)
    return (died["reason"] or "") if died else row.reason if row.hint else ""
