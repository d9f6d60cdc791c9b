"""Safety drift on the page of a model: the latest measurement, and a button for another one."""

from __future__ import annotations

import streamlit as st

from deltadex.access import Right
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.safety import reads, words
from deltadex.safety.ask import ask, cost
from deltadex.safety.queries import SafetyRow
from deltadex.safety.reads import MeasuredSafety
from deltadex.types import VersionRow
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.elements.asked import without_result
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_RUNNING = "Reading harmful and harmless prompts."


def show(now: Snapshot, row: VersionRow) -> None:
    """Show what was measured of a version, and a button for another measurement to those who may decide."""
    with now.transaction() as tx:
        latest = reads.latest(tx, now.person, row.id)
        found = reads.measured(tx, now.person, now.settings, row.id)
    may_ask = now.person.may(Right.DECIDE)
    if latest is None and not may_ask:
        return
    st.subheader("Does it still refuse?")
    if latest is None:
        st.caption("Not measured yet: whether it tells harmful from harmless requests as its base does.")
    elif not latest.is_over or latest.reason:
        without_result(latest, lambda request_id: _request(now, request_id), _RUNNING)
    if found is not None:
        _measured(found)
    if may_ask and (latest is None or latest.is_over):
        with st.expander("Measure it"):
            with now.transaction() as tx:
                st.caption(f"{view.plain(str(cost(tx, now.settings)))} Nothing is answered.")
            st.button("Measure", key="safety", on_click=_ask, args=(row.id,))


def _request(now: Snapshot, request_id: int) -> SafetyRow:
    with now.transaction() as tx:
        return reads.request(tx, now.person, now.settings, request_id)


def _measured(found: MeasuredSafety) -> None:
    (st.error if found.verdict.has_collapsed else st.info)(view.plain(found.verdict.words))
    rows = [
        {"harmful against harmless prompts": name, "version": own, "base": base}
        for name, own, base in words.comparisons(found)
    ]
    st.dataframe(rows, hide_index=True)
    for sentence in words.traits(found):
        st.caption(view.plain(sentence))
    if found.traits:
        st.caption(words.SHIFTS)


def _ask(version_id: int) -> None:
    now = snapshot()
    try:
        with now.transaction() as tx:
            ask(tx, now.person, now.settings, version_id)
    except DeltadexError as error:
        st.error(f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}")
