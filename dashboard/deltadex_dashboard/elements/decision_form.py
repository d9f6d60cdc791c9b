"""Forms for decisions about findings. The library checks rights and revisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from deltadex.access import Right
from deltadex.duplicates.group_findings import GroupMember
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.findings.kinds import Reason
from deltadex.reviews import actions as reviews
from deltadex.reviews.groups import is_group
from deltadex.reviews.lifecycle import UNDECIDED, Status
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.reasons import NEEDS_APPROVAL, Decision, reasons_for
from deltadex.reviews.titles import label
from deltadex.store.database import Transaction
from deltadex.types import FindingKind
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_LABELS: Mapping[Decision, str] = {
    Decision.DISMISSED: "Dismiss: not a problem",
    Decision.ACCEPTED: "Accept: it needs action",
    Decision.FIXED: "Fixed: the problem is resolved",
}
_OUTCOME = "outcome"
_COMMENT_PLACEHOLDER = "Reason, for later readers"


def one(now: Snapshot, row: ReviewRow) -> None:
    """Show the actions that the person may take on one finding."""
    st.subheader("Decision")
    if not now.person.may(Right.DECIDE):
        st.caption(f"{view.plain(now.person.name)} is a {now.person.role}. Only reviewers decide.")
        return
    if any(version.registered.ref.is_hidden for version in row.versions):
        st.caption("This finding includes a model that you may not see. Only a person who may see it can decide.")
        return
    seen = {row.id: row.revision}
    if row.review.requested_by:
        _approval(now, row, seen)
    elif row.review.status in UNDECIDED:
        _decision((row.finding.kind,), seen, group=row if is_group(row) else None)
    else:
        _reopening(seen)
    _assignment(now, row, seen)


def bulk(now: Snapshot, rows: Sequence[ReviewRow]) -> None:
    """Show the form for one decision about several findings, which applies to all or none."""
    if not now.person.may(Right.DECIDE):
        st.caption("Only reviewers decide.")
        return
    seen = {row.id: row.revision for row in rows}
    _decision(tuple(dict.fromkeys(row.finding.kind for row in rows)), seen)
    _assign_to_anybody(now, seen)


def outcome() -> None:
    """Show the result of the person's last action."""
    level, text = st.session_state.pop(_OUTCOME, ("", ""))
    if text:
        (st.success if level == "done" else st.error)(text)


def _decision(kinds: Sequence[FindingKind], seen: Mapping[int, int], *, group: ReviewRow | None = None) -> None:
    decision = st.radio("Decision", list(_LABELS), format_func=_LABELS.__getitem__, key="decision")
    allowed = [
        reason
        for reason in reasons_for(kinds[0], decision)
        if all(reason in reasons_for(kind, decision) for kind in kinds)
    ]
    if not allowed:
        st.caption("No reason applies to all of these findings. Decide each kind separately.")
        return
    reason = st.selectbox(
        "Reason", allowed, format_func=lambda reason: reason.replace("_", " ").capitalize(), key="reason"
    )
    keeper = None
    if reason in NEEDS_APPROVAL:
        keeper = _keeper(group) if group is not None else None
        st.caption("A second person must approve what retires a model.")
    st.text_area("Comment", key="comment", placeholder=_COMMENT_PLACEHOLDER)
    label = "Ask for approval" if reason in NEEDS_APPROVAL else "Decide"
    st.button(label, type="primary", key="decide", on_click=_decide, args=(seen, decision, reason, keeper))


def _keeper(group: ReviewRow) -> Mapping[int, int]:
    """Show whom the group keeps and retires, with a choice of the keeper; return the choice as `decide` takes it."""
    proposed = group.plan.keeper
    if proposed is None:
        st.warning(f"{view.plain(group.plan.reason)}. {view.plain(group.plan.advice)}")
    members = {one.id: one for one in group.plan.members}
    ids = sorted(members, key=lambda each: proposed is not None and each != proposed.id)
    chosen = st.selectbox(
        "Keep", ids, key=f"keeper-{group.id}", format_func=lambda each: _choice(members[each]),
        help="The others are retired, except those that are in use or needed.",
    )  # fmt: skip
    if proposed is not None and chosen == proposed.id:
        st.markdown(f"**{view.plain(group.plan.reason)}**")
    return {group.id: chosen}


def _choice(member: GroupMember) -> str:
    against = f"open finding: {', '.join(member.flaws)}" if member.flaws else " and ".join(member.holds)
    return f"{member.version} · {against}" if against else member.version


def _decide(seen: Mapping[int, int], decision: Decision, reason: Reason, keepers: Mapping[int, int] | None) -> None:
    comment = st.session_state["comment"]
    done = "waiting for a second person" if reason in NEEDS_APPROVAL else decision.value
    take_step(
        lambda tx, now: reviews.decide(
            tx, now.person, now.settings, seen, decision=decision, reason=reason, comment=comment, keepers=keepers
        ),
        done=f"{len(seen)} finding{'s are' if len(seen) > 1 else ' is'} {done}.",
    )


def _approval(now: Snapshot, row: ReviewRow, seen: Mapping[int, int]) -> None:
    why = row.ruling.reason.replace("_", " ") if row.ruling else ""
    what = row.plan.reason if is_group(row) else f"{why} {label(row.version)}"
    st.markdown(f"**{view.plain(row.review.requested_by)}** asks to **{view.plain(what)}**.")
    if row.review.requested_by == now.person.name:
        st.caption("Another person must approve it; you can withdraw it.")
    st.text_area("Comment", key="comment", placeholder=_COMMENT_PLACEHOLDER)
    with st.container(horizontal=True):
        is_own = row.review.requested_by == now.person.name
        if not is_own and now.person.may(Right.APPROVE):
            st.button("Approve", type="primary", key="approve", on_click=_answer, args=(reviews.approve, seen))
        if is_own or now.person.may(Right.APPROVE):
            label_of = "Withdraw" if is_own else "Refuse"
            st.button(label_of, key="refuse", on_click=_answer, args=(reviews.refuse, seen))


def _reopening(seen: Mapping[int, int]) -> None:
    st.text_area("Comment", key="comment", placeholder=_COMMENT_PLACEHOLDER)
    st.button("Reopen", key="reopen", on_click=_answer, args=(reviews.reopen, seen), help="It can be decided again.")


def _answer(act: Callable[..., None], seen: Mapping[int, int]) -> None:
    comment = st.session_state["comment"]
    take_step(
        lambda tx, now: act(tx, now.person, now.settings, seen, comment=comment), done="The decision is recorded."
    )


def _assignment(now: Snapshot, row: ReviewRow, seen: Mapping[int, int]) -> None:
    if row.review.status in (Status.DISMISSED, Status.FIXED):
        return
    is_mine = row.assignee == now.person.name
    text, assignee = ("Unassign", "") if is_mine else ("Assign to me", now.person.name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(text, key="assign", type="tertiary", on_click=_assign, args=(seen, assignee))
        _assign_to_anybody(now, seen)


def _assign_to_anybody(now: Snapshot, seen: Mapping[int, int]) -> None:
    people = reads.people(now)
    with st.popover("Assign to …", type="tertiary"):
        name = st.selectbox("Person", people, index=None, accept_new_options=not people, key="assignee-name")
        st.button("Assign", key="assign-to", disabled=not name, on_click=_assign, args=(seen, name or ""))


def _assign(seen: Mapping[int, int], assignee: str) -> None:
    done = f"Assigned to {view.plain(assignee)}." if assignee else "Unassigned."
    take_step(lambda tx, now: reviews.assign(tx, now.person, now.settings, seen, assignee=assignee), done=done)


def take_step(step: Callable[[Transaction, Snapshot], object], *, done: str) -> None:
    """Take one step in a transaction, and keep for `outcome` that it is done, as Markdown, or why it is refused."""
    try:
        # Checks the person again: the login may have ended since the page was drawn.
        now = snapshot()
        with now.transaction() as tx:
            step(tx, now)
    except DeltadexError as error:
        st.session_state[_OUTCOME] = ("refused", f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}")
        return
    st.session_state[_OUTCOME] = ("done", done)
    st.session_state["comment"] = ""
    for key in [key for key in st.session_state if str(key).startswith("mark-")]:
        st.session_state[key] = False
