"""Forms by which people decide. The library says who may, and whether the finding is still what they saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from deltadex import reviews
from deltadex.domain import FindingKind
from deltadex.errors import DeltadexError
from deltadex.governance.access import HIDDEN, Right
from deltadex.governance.lifecycle import UNDECIDED, Status
from deltadex.governance.reasons import NEEDS_APPROVAL, Decision, Reason, reasons_for
from deltadex.store.database import Transaction
from deltadex.store.reviews import ReviewRow
from deltadex_dashboard import view
from deltadex_dashboard.snapshots import Snapshot, snapshot

_LABELS: Mapping[Decision, str] = {
    Decision.DISMISSED: "Dismiss: it is no problem",
    Decision.ACCEPTED: "Accept: something follows from it",
    Decision.FIXED: "Fixed: it was put right",
}
_OUTCOME = "outcome"


def one(now: Snapshot, row: ReviewRow) -> None:
    """Offer what the person may do about one finding."""
    st.subheader("Decision")
    if not now.person.may(Right.DECIDE):
        st.caption(f"{view.plain(now.person.name)} is a {now.person.role}: reviewers decide.")
        return
    if any(version.registered.ref.name == HIDDEN for version in row.versions):
        st.caption("It is about a model that you may not see: somebody who may decides.")
        return
    seen = {row.id: row.revision}
    if row.review.requested_by:
        _approval(row, seen)
    elif row.review.status in UNDECIDED:
        _decision((row.finding.kind,), seen)
    else:
        _commented("Reopen", reviews.reopen, seen, done="open again")
    _assignment(now, row, seen)


def bulk(now: Snapshot, rows: Sequence[ReviewRow]) -> None:
    """Offer one decision about several findings: all of it or nothing."""
    with st.container(border=True):
        st.subheader(f"{len(rows)} marked")
        if not now.person.may(Right.DECIDE):
            st.caption("Reviewers decide.")
            return
        _decision(tuple(dict.fromkeys(row.finding.kind for row in rows)), {row.id: row.revision for row in rows})


def outcome() -> None:
    """Say what became of the last thing that the person did."""
    level, text = st.session_state.pop(_OUTCOME, ("", ""))
    if text:
        (st.success if level == "done" else st.error)(text)


def _decision(kinds: Sequence[FindingKind], seen: Mapping[int, int]) -> None:
    decision = st.radio("What is it?", list(_LABELS), format_func=lambda each: _LABELS[each], key="decision")
    allowed = [
        reason
        for reason in reasons_for(kinds[0], decision)
        if all(reason in reasons_for(kind, decision) for kind in kinds)
    ]
    if not allowed:
        st.caption("No reason fits all of these: decide them kind by kind.")
        return
    reason = st.selectbox("Reason", allowed, format_func=lambda each: each.replace("_", " ").capitalize(), key="reason")
    if reason in NEEDS_APPROVAL:
        st.caption("This retires a model: a second person must approve it.")
    st.text_area("Comment", key="comment", placeholder="Why, for those who read it in a year")
    label = "Ask for approval" if reason in NEEDS_APPROVAL else "Decide"
    st.button(label, type="primary", key="decide", on_click=_decide, args=(seen, decision, reason))


def _decide(seen: Mapping[int, int], decision: Decision, reason: Reason) -> None:
    comment = st.session_state["comment"]
    done = "waiting for a second person" if reason in NEEDS_APPROVAL else decision.value
    _act(
        lambda tx, now: reviews.decide(
            tx, now.person, now.settings, seen, decision=decision, reason=reason, comment=comment
        ),
        done=f"{len(seen)} finding{'s are' if len(seen) > 1 else ' is'} {done}.",
    )


def _approval(row: ReviewRow, seen: Mapping[int, int]) -> None:
    why = row.last.reason.replace("_", " ") if row.last else ""
    st.markdown(f"**{view.plain(row.review.requested_by)}** asks to **{why}** a model.")
    st.text_area("Comment", key="comment", placeholder="Why, for those who read it in a year")
    with st.container(horizontal=True):
        st.button("Approve", type="primary", key="approve", on_click=_answer, args=(reviews.approve, seen))
        st.button("Refuse", key="refuse", on_click=_answer, args=(reviews.refuse, seen))


def _commented(label: str, act: Callable[..., None], seen: Mapping[int, int], *, done: str) -> None:
    st.text_area("Comment", key="comment", placeholder="Why, for those who read it in a year")
    st.button(label, key=label.lower(), on_click=_answer, args=(act, seen), help=f"The finding is {done}.")


def _answer(act: Callable[..., None], seen: Mapping[int, int]) -> None:
    comment = st.session_state["comment"]
    _act(lambda tx, now: act(tx, now.person, now.settings, seen, comment=comment), done="It is on record.")


def _assignment(now: Snapshot, row: ReviewRow, seen: Mapping[int, int]) -> None:
    if row.review.status in (Status.DISMISSED, Status.FIXED):
        return
    is_mine = row.assignee == now.person.name
    label, to = ("Give it back", "") if is_mine else ("Assign to me", now.person.name)
    st.button(label, key="assign", type="tertiary", on_click=_assign, args=(seen, to))


def _assign(seen: Mapping[int, int], to: str) -> None:
    said = f"It is {view.plain(to)}'s now." if to else "It is nobody's now."
    _act(lambda tx, now: reviews.assign(tx, now.person, now.settings, seen, assignee=to), done=said)


def _act(step: Callable[[Transaction, Snapshot], object], *, done: str) -> None:
    try:
        # Not as whoever the page was drawn for: the login may have ended since.
        now = snapshot()
        with now.transaction() as tx:
            step(tx, now)
    except DeltadexError as error:
        st.session_state[_OUTCOME] = ("refused", f"**{view.plain(error.message)}.** {error.hint}")
        return
    st.session_state[_OUTCOME] = ("done", done)
    st.session_state["comment"] = ""
    for key in [key for key in st.session_state if str(key).startswith("mark-")]:
        st.session_state[key] = False
