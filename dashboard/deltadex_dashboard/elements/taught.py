"""Taught strings on the page of a model: the latest search, masked, and a form for another one."""

from __future__ import annotations

import streamlit as st

from deltadex.access import Right
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.taught import reads
from deltadex.taught.ask import ask
from deltadex.taught.canaries import read_canaries
from deltadex.taught.estimate import estimate
from deltadex.taught.queries import Taught, TaughtGiven, TaughtRow
from deltadex.taught.words import COVERAGE
from deltadex.types import VersionRow
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.elements.asked import without_result
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_RUNNING = "Continuing texts with the version and its base."


def show(now: Snapshot, row: VersionRow) -> None:
    """Show the latest search of a version, and a form for another one to those who may decide."""
    with now.transaction() as tx:
        found = reads.latest_of(tx, now.person, now.settings, row.id)
    may_ask = now.person.may(Right.DECIDE)
    if found is None and not may_ask:
        return
    st.subheader("What was it taught?")
    if found is None:
        st.caption("Not searched yet for secrets, personal data and listed strings.")
    else:
        _latest(now, found)
    if may_ask:
        with st.expander("Search for taught strings"):
            _form(now, row)


def _latest(now: Snapshot, found: TaughtRow) -> None:
    if found.result is None:
        without_result(found, lambda search_id: _search(now, search_id), _RUNNING)
        return
    # A page may be on a shared screen: the strings are shown only when a person asks for them.
    if (found.result.found or found.result.listed) and st.toggle("Show the strings in clear", key="taught-clear"):
        with now.transaction() as tx:
            found = reads.get(tx, now.person, now.settings, found.id, is_revealed=True)
    if found.result is not None:
        _result(found.result)


def _search(now: Snapshot, search_id: int) -> TaughtRow:
    with now.transaction() as tx:
        return reads.get(tx, now.person, now.settings, search_id)


def _result(result: Taught) -> None:
    if result.found:
        st.dataframe(
            [
                {
                    "Said": f"{one.before}{one.text}",
                    "Looks like": f"{one.kind}: {one.rule}",
                    "Times": one.times,
                }
                for one in result.found
            ],
            hide_index=True,
        )
    else:
        st.markdown(f"In {result.texts:,} texts it said no secret and no personal data that its base doesn't know.")
    if result.listed:
        st.dataframe(
            [
                {
                    "Listed": one.label,
                    "String": one.text,
                    "Gain over the base (nats)": round(one.gain, 1),
                    "z": round(one.z, 1),
                    "Taught": one.is_taught,
                }
                for one in result.listed
            ],
            hide_index=True,
        )
    if not result.is_whole:
        st.caption("The time ran out before all texts were continued.")
    st.caption(COVERAGE)


def _form(now: Snapshot, row: VersionRow) -> None:
    with now.transaction() as tx:
        expected = estimate(tx, now.settings, row.id)
    file = st.file_uploader(
        "Strings to look for, one per line, as text or as JSON with `text` and `prefix`",
        type=["jsonl", "txt"],
    )
    given = TaughtGiven()
    if file is not None:
        try:
            given = TaughtGiven(read_canaries(file.getvalue().decode(errors="replace")))
        except DeltadexError as error:
            st.error(f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}")
            return
    st.caption(
        f"{now.settings.taught.texts:,} texts and {len(given.canaries):,} listed strings. {view.plain(str(expected))} "
        "The listed strings are kept until the search has ended, then only those that were measured, masked on pages."
    )
    st.button("Search", key="taught", on_click=_ask, args=(row.id, given))


def _ask(version_id: int, given: TaughtGiven) -> None:
    now = snapshot()
    try:
        with now.transaction() as tx:
            ask(tx, now.person, now.settings, version_id, given)
    except DeltadexError as error:
        st.error(f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}")
