"""The check of one version: what was found about it, and whether everything that was asked for is judged."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from deltadex.access import Person
from deltadex.asked.queries import AskedState
from deltadex.checks.conditions import FailOn
from deltadex.clusters import queries as clusters
from deltadex.embeddings import queries as embeddings
from deltadex.findings.kinds import KINDS, Concerns, kinds_about
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import Status
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.titles import title
from deltadex.safety import queries as safety
from deltadex.safety.private_queries import latest_reading
from deltadex.safety.queries import SafetyRow
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.taught import queries as taught
from deltadex.taught.queries import TaughtRow
from deltadex.types import UNDER_WAY, FindingKind, State, VersionRow
from deltadex.versions import reads as versions

#: Statuses of findings that a person, or a delegated rule, has settled in favour of the version.
_SETTLED = (Status.DISMISSED, Status.FIXED)
#: Longest pause between two reads: a notification may be lost.
_PAUSE_SECONDS = 2.0
_UNKNOWN = "it is not known: the watcher finds new versions within seconds, or you may not see this one"
_NO_PRIVATE_PROBES = "probes_disagree can't be judged: safety was measured, and the workers have no private seed"


class Outcome(StrEnum):
    """Outcome of a check."""

    PASSED = "passed"
    FOUND = "found"
    NOT_READY = "not_ready"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True)
class VersionCheck:
    """The findings about one version at one moment.

    Attributes
    ----------
    label
        `name/version`, as it was asked for.
    failing
        Findings of the kinds asked for that are not settled.
    others
        Other findings that are not settled.
    settled
        Findings that were dismissed.
    unjudged
        Kinds asked for that are not judged yet: by the next round over all versions, or when a person asks for it.
    reason
        Why the version is not ready, or was not measured; empty if it is judged.
    """

    label: str
    outcome: Outcome
    fail_on: FailOn
    state: State | None = None
    failing: tuple[ReviewRow, ...] = ()
    others: tuple[ReviewRow, ...] = ()
    settled: tuple[ReviewRow, ...] = ()
    unjudged: tuple[FindingKind, ...] = ()
    reason: str = ""
    version_id: int | None = None

    def title(self, row: ReviewRow) -> str:
        """Return the title of a finding, with this version first."""
        return title(row, about=self.version_id)


def check(
    tx: Transaction, viewer: Person, settings: Settings, name: str, version: int, *, fail_on: FailOn
) -> VersionCheck:
    """Return what was found about the newest version with this name and number, masked for the viewer."""
    label = f"{name}/{version}"
    found = versions.find(tx, viewer, settings.registry, name, version)
    if not found:
        return VersionCheck(label, Outcome.NOT_READY, fail_on, reason=_UNKNOWN)
    row = found[0]
    if row.state in (*UNDER_WAY, State.WAITING):
        return VersionCheck(label, Outcome.NOT_READY, fail_on, row.state, reason=_awaited(row))
    unjudged = _unjudged(tx, settings, row, fail_on)
    about = [one for one in reviews.listing(tx, viewer, settings, version_id=row.id) if _concerns(one, row.id)]
    standing = [one for one in about if one.review.status not in _SETTLED]
    failing = tuple(one for one in standing if one.finding.kind in fail_on.kinds)
    awaited = set(unjudged) & fail_on.named
    outcome, reason = _outcome(row, failing, awaited)
    if (
        outcome is Outcome.NOT_READY
        and FindingKind.PROBES_DISAGREE in awaited
        # Measuring safety reads the private probes as well. Asked last: it is a query, and most checks don't need it.
        and not _is_unjudged(tx, settings, row, FindingKind.SAFETY_COLLAPSED)
    ):
        outcome, reason = Outcome.NOT_MEASURED, _NO_PRIVATE_PROBES
    return VersionCheck(
        label,
        outcome,
        fail_on,
        row.state,
        failing,
        others=tuple(one for one in standing if one not in failing),
        settled=tuple(one for one in about if one not in standing),
        unjudged=unjudged,
        reason=reason,
        version_id=row.id,
    )


def wait_for_check(
    database: Database,
    read: Callable[[Transaction], VersionCheck],
    *,
    seconds: float,
    on_progress: Callable[[VersionCheck], None],
) -> VersionCheck:
    """Return the first check that is ready, or the last one before the time is over.

    Parameters
    ----------
    on_progress
        Called with each check that is not ready.
    """
    until = monotonic() + seconds
    latest = database.run(read)
    if seconds <= 0 or latest.outcome is not Outcome.NOT_READY:
        return latest
    with closing(database.changes(every_seconds=min(_PAUSE_SECONDS, seconds))) as changes:
        for _ in changes:
            latest = database.run(read)
            if latest.outcome is not Outcome.NOT_READY or monotonic() >= until:
                break
            on_progress(latest)
    return latest


def _concerns(one: ReviewRow, version_id: int) -> bool:
    """Return True if a finding is about a version: of a pair, it is about the newer one."""
    is_pair = one.finding.kind in kinds_about(Concerns.PAIR)
    return one.is_found and not (is_pair and one.finding.version_id != version_id)


def _outcome(row: VersionRow, failing: tuple[ReviewRow, ...], awaited: set[FindingKind]) -> tuple[Outcome, str]:
    if failing:
        return Outcome.FOUND, ""
    if row.state is not State.EMBEDDED:
        # Nothing was compared: a version that could not be embedded must not pass for one without findings.
        why = f": {row.reason}" if row.reason else ""
        return Outcome.NOT_MEASURED, f"it is {row.state}, so nothing was compared{why}"
    if not awaited:
        return Outcome.PASSED, ""
    ways = [f"{kind} is not judged yet, but by {judged_by(kind, row.label)}" for kind in sorted(awaited)]
    return Outcome.NOT_READY, "; ".join(ways)


def judged_by(kind: FindingKind, label: str) -> str:
    """Return by what a kind that is not judged yet will be judged."""
    command = KINDS[kind].asked_by
    return f"`{command.format(version=shlex.quote(label))}`" if command else "the next round over all versions"


def _awaited(row: VersionRow) -> str:
    return f"it is {row.state}" + (f": {row.reason}" if row.reason else "")


def _unjudged(tx: Transaction, settings: Settings, row: VersionRow, fail_on: FailOn) -> tuple[FindingKind, ...]:
    """Return the kinds that nothing has judged since the version was embedded."""
    return tuple(kind for kind in fail_on.kinds if _is_unjudged(tx, settings, row, kind))


def _is_unjudged(tx: Transaction, settings: Settings, row: VersionRow, kind: FindingKind) -> bool:
    match kind:
        case FindingKind.SAME_TASK:
            return _awaits_round(tx, settings, row)
        case FindingKind.SAFETY_COLLAPSED:
            return not _is_of(row, safety.latest(tx, row.id, states=[AskedState.DONE]))
        case FindingKind.PROBES_DISAGREE:
            return latest_reading(tx, row.id, weights_digest=row.weights_digest) is None
        case FindingKind.TAUGHT:
            return not _is_of(row, taught.latest_of(tx, settings.registry, row.id, states=[AskedState.DONE]))
        case _:
            return False


def _is_of(row: VersionRow, measured: SafetyRow | TaughtRow | None) -> bool:
    """Return True if the weights that were embedded last are those that were measured."""
    return measured is not None and row.weights_digest in (None, measured.weights_digest)


def _awaits_round(tx: Transaction, settings: Settings, row: VersionRow) -> bool:
    stored = embeddings.of_version(tx, row.id)
    run = clusters.latest_run(tx, stored[0].recipe.id, settings.registry) if stored else None
    return bool(stored) and (run is None or run.found_at <= row.state_since)
