"""Reads and decisions of findings, for the dashboard and the command line. Every call checks the person's rights.

A decision names the revision of each finding that its author saw: `{row.id: row.revision}`. A bulk decision is one
transaction: all or nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from deltadex.access import Person, Right, Role, read_directory
from deltadex.duplicates.group_findings import GROUP_KINDS
from deltadex.duplicates.replan import plan_of, present, replan
from deltadex.errors import AccessDenied, DeltadexError, FindingChanged, IllegalStep
from deltadex.findings.kinds import Reason, Severity
from deltadex.replay import reads as replays
from deltadex.reviews import chain
from deltadex.reviews import follow as review_changes
from deltadex.reviews import queries as reviews
from deltadex.reviews.chain import Chain
from deltadex.reviews.delegation import Rule, first_matching, parse_rules
from deltadex.reviews.groups import (
    automatic_step,
    is_group,
    require_consistent,
    require_safe,
    require_same_roles,
    require_unchanged,
)
from deltadex.reviews.lifecycle import Action, Status, automatic_action, basis_of, tolerance_of
from deltadex.reviews.masking import masked, masked_entries, sees_all
from deltadex.reviews.queries import LOOK_AGAIN, LogEntry, ReviewRow
from deltadex.reviews.reasons import NEEDS_APPROVAL, Decision, action_of
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, RiskTier

#: Reviewer of log entries that follow from a measurement.
SYSTEM_REVIEWER = "deltadex"

_logger = logging.getLogger(__name__)


def listing(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    *,
    ids: Collection[int] | None = None,
    statuses: Collection[Status] = tuple(Status),
    kinds: Collection[FindingKind] = tuple(FindingKind),
    severities: Collection[Severity] = tuple(Severity),
    assignee: str | None = None,
    version_id: int | None = None,
) -> list[ReviewRow]:
    """Return findings, the most severe first and then the earliest due. Hidden models are masked.

    Parameters
    ----------
    assignee
        Only findings of this person; empty for unassigned ones.
    version_id
        Only findings about this version, on either side of a pair, or about its registered model.
    """
    viewer.require(Right.LOOK)
    rows = reviews.listing(tx, settings.registry, ids=ids, statuses=statuses, kinds=kinds, version_id=version_id)
    wanted = [row for row in rows if row.severity in severities and assignee in (None, row.assignee)]
    return masked(tx, viewer, settings.registry, wanted)


def get(tx: Transaction, viewer: Person, settings: Settings, review_id: int) -> ReviewRow:
    """Return one finding.

    Raises
    ------
    IllegalStep
        There is no finding with this id.
    """
    found = listing(tx, viewer, settings, ids=[review_id])
    if not found:
        raise _unknown(review_id)
    return found[0]


def history(tx: Transaction, viewer: Person, settings: Settings, *review_ids: int) -> list[LogEntry]:
    """Return the log entries of some findings, oldest first."""
    viewer.require(Right.LOOK)
    return masked_entries(tx, viewer, settings.registry, reviews.history(tx, *review_ids))


def log(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    *,
    reviewer: str | None = None,
    rule: str | None = None,
    since: datetime | None = None,
    limit: int = 200,
) -> list[LogEntry]:
    """Return the log entries of all findings, newest first."""
    viewer.require(Right.LOOK)
    entries = reviews.log(tx, settings.registry, reviewer=reviewer, rule=rule, since=since, limit=limit)
    return masked_entries(tx, viewer, settings.registry, entries)


def count_by_rule(tx: Transaction, viewer: Person, settings: Settings, rule: str) -> int:
    """Return the number of decisions that a delegated rule has made."""
    viewer.require(Right.LOOK)
    return reviews.count_by_rule(tx, settings.registry, rule)


def verify(tx: Transaction, viewer: Person, *, holding: str | None = None) -> Chain:
    """Verify the log and the findings that follow from it; see `deltadex.reviews.chain.verify`."""
    viewer.require(Right.LOOK)
    return chain.verify(tx, holding=holding)


def prove(tx: Transaction, viewer: Person, settings: Settings, entry_id: int) -> dict[str, Any]:
    """Return the proof of one entry that the viewer may see in full; see `deltadex.reviews.chain.prove`."""
    viewer.require(Right.LOOK)
    entry = reviews.entry(tx, entry_id)
    if entry is not None:
        _require_shown(tx, viewer, settings, entry)
    return chain.prove(tx, entry_id)


def _require_shown(tx: Transaction, viewer: Person, settings: Settings, entry: LogEntry) -> None:
    if masked_entries(tx, viewer, settings.registry, [entry]) != [entry]:
        raise AccessDenied(
            f"{viewer.name} may not see every model that entry {entry.id} speaks of",
            hint="A person who may see them asks.",
        )


def prove_about(
    tx: Transaction, viewer: Person, settings: Settings, version_id: int, *, after: str = ""
) -> dict[str, Any]:
    """Return the part of the log that proves the entries about a version; see `deltadex.reviews.chain.prove_part`.

    Entries that also speak of a model that the viewer may not see are given as digests only.
    """
    viewer.require(Right.LOOK)
    entries = reviews.about(tx, version_id)
    shown = masked_entries(tx, viewer, settings.registry, entries)
    seen = {one.id for one, as_shown in zip(entries, shown, strict=True) if as_shown == one}
    return chain.prove_part(tx, seen, after=after)


def erase(tx: Transaction, person: Person, settings: Settings, entry_ids: Collection[int], *, comment: str) -> None:
    """Erase the comments of log entries for good, on request. Each erasure is an entry of the log itself.

    Raises
    ------
    AccessDenied
        The person is no admin, or may not see every model that an entry speaks of.
    IllegalStep
        There is no such entry, or its comment is erased already.
    """
    person.require(Right.ADMINISTER)
    for entry_id in sorted(set(entry_ids)):
        entry = reviews.entry(tx, entry_id)
        if entry is None or entry.is_erased:
            problem = "is erased already" if entry else "is not in the log"
            raise IllegalStep(f"Entry {entry_id} {problem}", hint="`deltadex review log` shows them.")
        _require_shown(tx, person, settings, entry)
        reviews.erase(tx, entry_id, reviewer=person.name, identity=person.identity, reason=_required(comment))


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
    """Assign findings to a person and put them in review; an empty name unassigns them."""
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
    keepers: Mapping[int, int] | None = None,
) -> list[Action]:
    """Decide findings, or request approval if a second person must approve; return the actions, in the order of ids.

    Parameters
    ----------
    keepers
        For groups, by finding: the version to keep in place of the proposed one.

    Raises
    ------
    AccessDenied
        The person may not decide, or may not see one of the models.
    IllegalStep
        The comment is empty, the reason is not allowed for a finding's kind, a finding is already decided, or a group
        has no version that can be kept safely.
    FindingChanged
        A finding has changed since the person saw it.
    """
    person.require(Right.DECIDE)
    rows = _rows(tx, person, settings, seen)
    actions = [action_of(row.finding.kind, decision, reason) for row in rows]
    for row, action in zip(rows, actions, strict=True):
        chosen = (
            _plan(tx, person, settings, row, keeper=(keepers or {}).get(row.id)) if reason in NEEDS_APPROVAL else None
        )
        _step(tx, person, row, action, seen, reason=reason, comment=_required(comment), chosen=chosen)
    return actions


def approve(tx: Transaction, person: Person, settings: Settings, seen: Mapping[int, int], *, comment: str) -> None:
    """Approve another person's request. Raises as `decide`, and IllegalStep for a request of one's own."""
    person.require(Right.APPROVE)
    for row in _rows(tx, person, settings, seen):
        if is_group(row) and row.plan.keeper is not None:
            # By the rules of this moment: the keeper may have been superseded since, or a target be the newest now.
            now = plan_of(tx, settings, [version.id for version in row.members], keeper=row.plan.keeper.id)
            require_unchanged(row, now)
            require_same_roles(row, now)
            require_consistent(row, now, _ruled(tx, settings))
        _step(tx, person, row, Action.APPROVED, seen, comment=_required(comment))


def refuse(tx: Transaction, person: Person, settings: Settings, seen: Mapping[int, int], *, comment: str) -> None:
    """Refuse a request; without the right to approve, only one's own. Raises as `decide`."""
    person.require(Right.DECIDE)
    for row in _rows(tx, person, settings, seen):
        if row.review.requested_by != person.name:
            person.require(Right.APPROVE)
        _step(tx, person, row, Action.REFUSED, seen, comment=_required(comment))


def reopen(tx: Transaction, person: Person, settings: Settings, seen: Mapping[int, int], *, comment: str) -> None:
    """Reopen decided findings, one's own or another person's. Raises as `decide`."""
    person.require(Right.DECIDE)
    for row in _rows(tx, person, settings, seen):
        _step(tx, person, row, Action.REOPENED, seen, comment=_required(comment))


def follow_recomputed(tx: Transaction, settings: Settings, recipe_id: int) -> None:
    """Update reviews after all pairs of a recipe were compared again."""
    review_changes.mark_remeasured(tx, recipe_id)
    follow(tx, settings)


def follow(tx: Transaction, settings: Settings, *, name: str | None = None) -> None:
    """Open, reopen and close reviews to match the current findings, then apply the delegated rules.

    Parameters
    ----------
    name
        Only findings about this registered model. None updates all, and applies new rules to old findings.
    """
    review = settings.review
    replan(tx, settings, name=name)
    opened, changed = review_changes.follow(tx, settings.registry, name=name, due_days=review.due_days)
    rows = reviews.listing(tx, settings.registry, ids=changed)
    active = present(tx, {one.id for row in rows if row.ruling is not None for one in row.ruling.plan.targets})
    for row in rows:
        # A finding that was closed automatically reopens as soon as it is found again, even with an old measurement.
        is_new = row.last_measured > row.status_since or (row.last is not None and row.last.action is Action.CLOSED)
        tolerance = tolerance_of(row.finding.kind, review)
        if is_group(row) and row.is_found:
            step, why = automatic_step(row, active=active, tolerance=tolerance, is_new=is_new) or (None, "")
        else:
            basis = basis_of(row.finding) if row.is_found else None
            step, why = automatic_action(row.review, basis, is_new=is_new, amount=tolerance), ""
        if step is not None:
            reviews.record(tx, row.id, step, seen=row.revision, reviewer=SYSTEM_REVIEWER, comment=why)
    tiers = (*RiskTier, None)
    due_days = {
        tier: settings.ownership.due_days.get(tier, review.due_days) if tier else review.due_days for tier in tiers
    }
    review_changes.plan_due_dates(tx, settings.registry, name=name, due_days=due_days)
    _delegate(tx, settings, None if name is None else {*opened, *changed})


def _delegate(tx: Transaction, settings: Settings, ids: Collection[int] | None) -> None:
    """Apply the rules to open findings that no person has acted on."""
    authors = {rule: author for rule in parse_rules(settings.review.rules) if (author := _author_of(rule, settings))}
    if not authors:
        return
    kinds = frozenset[FindingKind]().union(*(rule.kinds for rule in authors))
    for row in reviews.listing(tx, settings.registry, ids=ids, statuses={Status.OPEN}, kinds=kinds):
        rules = [rule for rule, author in authors.items() if sees_all(author, row.versions)]
        rule = first_matching(rules, row.finding.kind, [version.registered for version in row.versions])
        if rule is not None and (row.last is None or row.last.reviewer == SYSTEM_REVIEWER):
            reviews.record(
                tx,
                row.id,
                Action.DISMISSED,
                seen=row.revision,
                reviewer=rule.by,
                reason=rule.reason,
                comment=rule.comment,
                rule=rule.name,
            )


def _author_of(rule: Rule, settings: Settings) -> Person | None:
    """Return the author of a rule; None if they have no right to decide any more."""
    directory = read_directory(settings)
    if directory is None:
        return Person(rule.by, Role.REVIEWER)
    try:
        author = directory.person(rule.by)
        author.require(Right.DECIDE)
    except AccessDenied as error:
        _logger.warning("rule not applied rule=%s error=%r", rule.name, error.message)
        return None
    return author


def _rows(tx: Transaction, person: Person, settings: Settings, seen: Mapping[int, int]) -> list[ReviewRow]:
    """Return the findings by id; one order for all callers prevents deadlocks."""
    rows = {row.id: row for row in reviews.listing(tx, settings.registry, ids=seen)}
    for review_id in sorted(seen):
        if review_id not in rows:
            raise _unknown(review_id)
        if not sees_all(person, rows[review_id].versions):
            raise AccessDenied(
                f"{person.name} may not see every model that finding {review_id} is about",
                hint="A person who may see them decides.",
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
    chosen: Mapping[str, Any] | None = None,
) -> None:
    if person.name.casefold() == SYSTEM_REVIEWER:
        raise AccessDenied(f"{person.name} is the name of what follows by itself", hint="Decide under another name.")
    if row.revision != seen[row.id]:
        raise FindingChanged(f"Finding {row.id} has changed: it is not what you saw", hint=LOOK_AGAIN)
    row.review.after(action, by=person.name, basis=basis_of(row.finding))
    reviews.record(
        tx,
        row.id,
        action,
        seen=seen[row.id],
        reviewer=person.name,
        identity=person.identity,
        reason=reason,
        comment=comment,
        assignee=assignee,
        due_at=due_at,
        chosen=chosen,
    )


def _plan(
    tx: Transaction, person: Person, settings: Settings, row: ReviewRow, *, keeper: int | None
) -> dict[str, Any] | None:
    """Return the plan to retire versions of a group, with what replays have shown; None for any other finding.

    Raises
    ------
    IllegalStep
        Nothing can be retired safely, or the chosen version can't be kept.
    FindingChanged
        The group is not as its finding shows it.
    """
    if not is_group(row):
        return None
    plan = plan_of(tx, settings, [version.id for version in row.members], keeper=keeper)
    require_unchanged(row, plan)
    kept = require_safe(row.id, plan)
    require_consistent(row, plan, _ruled(tx, settings))
    found = (replays.latest_between(tx, person, settings, kept.id, one.id, is_done=True) for one in plan.targets)
    shown = [replays.evidence_of(one) for one in found if one is not None]
    return {**plan.evidence(), **({"replays": shown} if shown else {})}


def _ruled(tx: Transaction, settings: Settings) -> list[ReviewRow]:
    """Return the groups about which something is asked for, or accepted."""
    statuses = (Status.IN_REVIEW, Status.ACCEPTED)
    rows = reviews.listing(tx, settings.registry, statuses=statuses, kinds=GROUP_KINDS)
    return [row for row in rows if row.review.requested_by or row.review.status is Status.ACCEPTED]


def _required(comment: str) -> str:
    if not comment.strip():
        raise IllegalStep("A decision needs a comment", hint="Explain it for the people who read the log later.")
    return comment.strip()


def _unknown(review_id: int) -> DeltadexError:
    return IllegalStep(f"There is no finding {review_id}", hint="`deltadex review list` shows them.")
