"""Findings under review, for people: who asks is checked on every call, whichever page or command it came from.

Whoever decides says which revision of each finding they saw: `{row.id: row.revision}`. A bulk decision is one
transaction: all of it or nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from deltadex.domain import Finding, FindingKind, VersionRow
from deltadex.errors import AccessDenied, ChangedMeanwhile, DeltadexError, IllegalStep
from deltadex.governance.access import HIDDEN, Person, Right
from deltadex.governance.delegation import Rule, first_fitting, parse_rules
from deltadex.governance.lifecycle import Action, Severity, Status, basis_of, by_itself, tolerated
from deltadex.governance.reasons import Decision, Reason, action_of
from deltadex.people import read_directory
from deltadex.settings import Settings
from deltadex.store import review_changes
from deltadex.store import reviews as store
from deltadex.store.database import Transaction
from deltadex.store.reviews import Chain, LogEntry, ReviewRow

#: Who the log says acted where a measurement did.
BY_ITSELF = "deltadex"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Followed:
    """What one round of measurements did to findings: ids of reviews."""

    opened: tuple[int, ...] = ()
    returned: tuple[int, ...] = ()
    closed: tuple[int, ...] = ()
    delegated: tuple[int, ...] = ()


def listing(
    tx: Transaction,
    person: Person,
    settings: Settings,
    *,
    ids: Collection[int] | None = None,
    statuses: Collection[Status] = tuple(Status),
    kinds: Collection[FindingKind] = tuple(FindingKind),
    severities: Collection[Severity] = tuple(Severity),
    assignee: str | None = None,
    version_id: int | None = None,
) -> list[ReviewRow]:
    """Return findings, the most severe first and then the earliest due; models that the person may not see are masked.

    Parameters
    ----------
    assignee
        Only theirs; empty: nobody's.
    version_id
        Only those that concern this version, as either side of a pair.
    """
    person.require(Right.LOOK)
    rows = store.listing(tx, settings.registry, ids=ids, statuses=statuses, kinds=kinds, version_id=version_id)
    return [_shown(person, row) for row in rows if row.severity in severities and assignee in (None, row.assignee)]


def get(tx: Transaction, person: Person, settings: Settings, review_id: int) -> ReviewRow:
    """Return one finding. Raises IllegalStep where there is none of this id."""
    found = listing(tx, person, settings, ids=[review_id])
    if not found:
        raise _unknown(review_id)
    return found[0]


def history(tx: Transaction, person: Person, *review_ids: int) -> list[LogEntry]:
    """Return what was done about some findings, oldest first."""
    person.require(Right.LOOK)
    return [_shown_entry(person, entry) for entry in store.history(tx, *review_ids)]


def log(
    tx: Transaction,
    person: Person,
    settings: Settings,
    *,
    reviewer: str | None = None,
    rule: str | None = None,
    since: datetime | None = None,
    limit: int = 200,
) -> list[LogEntry]:
    """Return what was done about all findings, newest first."""
    person.require(Right.LOOK)
    entries = store.log(tx, settings.registry, reviewer=reviewer, rule=rule, since=since, limit=limit)
    return [_shown_entry(person, entry) for entry in entries]


def count_by_rule(tx: Transaction, person: Person, settings: Settings, rule: str) -> int:
    """Return how many decisions a delegated rule has made."""
    person.require(Right.LOOK)
    return store.count_by_rule(tx, settings.registry, rule)


def verify(tx: Transaction, person: Person, *, holding: str | None = None) -> Chain:
    """Compute the log's hashes anew; see `deltadex.store.reviews.verify`."""
    person.require(Right.LOOK)
    return store.verify(tx, holding=holding)


def assign(
    tx: Transaction,
    person: Person,
    settings: Settings,
    seen: Mapping[int, int],
    *,
    assignee: str,
    due_at: datetime | None = None,
    comment: str = "",
) -> None:
    """Give findings to somebody, who then has them in review; with an empty name, to nobody."""
    person.require(Right.DECIDE)
    action = Action.ASSIGNED if assignee else Action.RELEASED
    for row in _rows(tx, person, settings, seen):
        _step(tx, person, row, action, seen, comment=comment, assignee=assignee, due_at=due_at)


def decide(
    tx: Transaction,
    person: Person,
    settings: Settings,
    seen: Mapping[int, int],
    *,
    decision: Decision,
    reason: Reason,
    comment: str,
) -> list[Action]:
    """Decide findings, or request it where a second person must approve; return which of the two, in order of ids.

    Raises
    ------
    AccessDenied
        The person may not decide, or may not see one of the models.
    IllegalStep
        There is no comment, the reason is none for a kind, or a finding is decided already.
    ChangedMeanwhile
        A finding is not what the person saw.
    """
    person.require(Right.DECIDE)
    rows = _rows(tx, person, settings, seen)
    actions = [action_of(row.finding.kind, decision, reason) for row in rows]
    for row, action in zip(rows, actions, strict=True):
        _step(tx, person, row, action, seen, reason=reason, comment=_said(comment))
    return actions


def approve(tx: Transaction, person: Person, settings: Settings, seen: Mapping[int, int], *, comment: str) -> None:
    """Agree to what somebody else requested. Raises as `decide`; nobody approves their own."""
    person.require(Right.APPROVE)
    for row in _rows(tx, person, settings, seen):
        _step(tx, person, row, Action.APPROVED, seen, comment=_said(comment))


def refuse(tx: Transaction, person: Person, settings: Settings, seen: Mapping[int, int], *, comment: str) -> None:
    """Turn down what somebody requested, or withdraw one's own request. Raises as `decide`."""
    person.require(Right.DECIDE)
    for row in _rows(tx, person, settings, seen):
        if row.review.requested_by != person.name:
            person.require(Right.APPROVE)
        _step(tx, person, row, Action.REFUSED, seen, comment=_said(comment))


def reopen(tx: Transaction, person: Person, settings: Settings, seen: Mapping[int, int], *, comment: str) -> None:
    """Take back what was decided, whoever decided it. Raises as `decide`."""
    person.require(Right.DECIDE)
    for row in _rows(tx, person, settings, seen):
        _step(tx, person, row, Action.REOPENED, seen, comment=_said(comment))


def follow_recomputed(tx: Transaction, settings: Settings, recipe_id: int) -> Followed:
    """Do as `follow` after all pairs of a recipe were compared anew."""
    review_changes.remeasured(tx, recipe_id)
    return follow(tx, settings)


def follow(tx: Transaction, settings: Settings, *, name: str | None = None) -> Followed:
    """Bring reviews up to what is found now: open, reopen and close them by themselves, and apply delegated rules.

    Parameters
    ----------
    name
        Only what concerns this registered model; None for all, which also applies rules that are new.
    """
    review = settings.review
    opened, changed = review_changes.follow(tx, settings.registry, name=name, due_days=review.due_days)
    moved: dict[Action, list[int]] = {Action.RETURNED: [], Action.CLOSED: []}
    for row in store.listing(tx, settings.registry, ids=changed):
        # What closed by itself is open again as soon as it is found, whenever that was measured.
        is_new = row.last_measured > row.status_since or (row.last is not None and row.last.action is Action.CLOSED)
        basis = basis_of(row.finding) if row.is_found else None
        step = by_itself(row.review, basis, is_new=is_new, amount=tolerated(row.finding.kind, review))
        if step is not None:
            store.record(tx, row.id, step, seen=row.revision, reviewer=BY_ITSELF)
            moved[step].append(row.id)
    delegated = _delegate(tx, settings, None if name is None else {*opened, *changed})
    return Followed(tuple(opened), tuple(moved[Action.RETURNED]), tuple(moved[Action.CLOSED]), tuple(delegated))


def _delegate(tx: Transaction, settings: Settings, ids: Collection[int] | None) -> Iterable[int]:
    """Let the rules dismiss what is open and no person has touched since it was found."""
    rules = [rule for rule in parse_rules(settings.review.rules) if _is_answered_for(rule, settings)]
    if not rules:
        return []
    decided = []
    kinds = frozenset[FindingKind]().union(*(rule.kinds for rule in rules))
    for row in store.listing(tx, settings.registry, ids=ids, statuses={Status.OPEN}, kinds=kinds):
        rule = first_fitting(rules, row.finding.kind, [version.registered for version in row.versions])
        if rule is not None and (row.last is None or row.last.reviewer == BY_ITSELF):
            store.record(
                tx,
                row.id,
                Action.DISMISSED,
                seen=row.revision,
                reviewer=rule.by,
                reason=rule.reason,
                comment=rule.comment,
                rule=rule.name,
            )
            decided.append(row.id)
    return decided


def _is_answered_for(rule: Rule, settings: Settings) -> bool:
    directory = read_directory(settings)
    try:
        if directory is not None:
            directory.person(rule.by).require(Right.DECIDE)
    except AccessDenied as error:
        _logger.warning("rule not applied rule=%s error=%r", rule.name, error.message)
        return False
    return True


def _rows(tx: Transaction, person: Person, settings: Settings, seen: Mapping[int, int]) -> list[ReviewRow]:
    """Return what the person wants to act on, in one order for everybody."""
    rows = {row.id: row for row in store.listing(tx, settings.registry, ids=seen)}
    for review_id in sorted(seen):
        if review_id not in rows:
            raise _unknown(review_id)
        if not _sees_all(person, rows[review_id].versions):
            raise AccessDenied(
                f"{person.name} may not see every model that finding {review_id} is about",
                hint="Somebody who may see them decides.",
            )
    return [rows[review_id] for review_id in sorted(seen)]


def _step(
    tx: Transaction,
    person: Person,
    row: ReviewRow,
    action: Action,
    seen: Mapping[int, int],
    *,
    reason: str = "",
    comment: str = "",
    assignee: str | None = None,
    due_at: datetime | None = None,
) -> None:
    if row.revision != seen[row.id]:
        raise ChangedMeanwhile(f"Finding {row.id} is not what you saw any more", hint="Look at it again, then decide.")
    row.review.after(action, by=person.name, basis=basis_of(row.finding))
    store.record(
        tx,
        row.id,
        action,
        seen=seen[row.id],
        reviewer=person.name,
        reason=reason,
        comment=comment,
        assignee=assignee,
        due_at=due_at,
    )


def _said(comment: str) -> str:
    if not comment.strip():
        raise IllegalStep("A decision needs a comment", hint="Say why, for those who read it in a year.")
    return comment.strip()


def _unknown(review_id: int) -> DeltadexError:
    return IllegalStep(f"There is no finding {review_id}", hint="`deltadex review list` shows them.")


def _sees_all(person: Person, versions: Iterable[VersionRow]) -> bool:
    return all(person.sees(version.registered.ref.name) for version in versions)


def _shown(person: Person, row: ReviewRow) -> ReviewRow:
    """Return a row as the person may see it."""
    if _sees_all(person, row.versions):
        return row
    finding = Finding(row.finding.kind, row.finding.version_id, row.finding.other_id)
    return replace(
        row,
        finding=finding,
        version=person.view(row.version),
        other=row.other and person.view(row.other),
        last=row.last and _shown_entry(person, row.last),
    )


def _shown_entry(person: Person, entry: LogEntry) -> LogEntry:
    if all(person.sees(model) for model in entry.models):
        return entry
    other = entry.other_subject and HIDDEN
    return replace(
        entry, subject=HIDDEN, other_subject=other, models=(), measure=None, threshold=None, reason="", comment=""
    )
