"""A request that a flow works on, as its page shows it: from the number in the link to the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from deltadex.advise.queries import AdviceRow
from deltadex.asked.queries import AskedState, RequestRow
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.find.queries import SearchRow
from deltadex_dashboard.elements import text as view

_REFRESH_SECONDS = 1
_WAITING = {
    AskedState.ASKED: "Waiting for the watcher, which starts it within seconds.",
    AskedState.QUEUED: "Waiting for a worker.",
}

R = TypeVar("R", SearchRow, AdviceRow)


def linked(parameter: str, read: Callable[[int], R], *, noun: str, coming: str) -> R | None:
    """Return the request that the page's link names, under its headline; say why there is none.

    Parameters
    ----------
    parameter
        Name of the parameter with its number.
    noun
        Name of a request with its article, such as `a search`.
    coming
        Sentence on what the page will show.
    """
    bare = noun.partition(" ")[2]
    number = st.query_params.get(parameter, "")
    if not number.isdecimal():
        if number:
            st.warning(view.plain(f"{number!r} in the link is not the number of {noun}."))
        view.empty(f"There is no {bare} yet.", coming)
        return None
    try:
        row = read(int(number))
    except DeltadexError as error:
        st.error(f"{view.plain(error.message)}. {markdown_hint(error.hint)}")
        return None
    st.subheader(f"{bare.capitalize()} {row.id}")
    examples = f"{row.examples_count} example{'s' * (row.examples_count > 1)}"
    st.caption(f"{examples} · {view.plain(row.base_name)} · {view.plain(row.asked_by)}, {view.ago(row.asked_at)}")
    return row


def without_result(row: RequestRow, read: Callable[[int], RequestRow], running: str) -> None:
    """Show why a request failed, or how far it is.

    Parameters
    ----------
    running
        Sentence on what the worker does.
    """
    if row.is_over:
        st.error(f"**{view.plain(row.reason)}** {markdown_hint(row.hint)}")
    else:
        _progress(row.id, read, running)


@st.fragment(run_every=_REFRESH_SECONDS)
def _progress(request_id: int, read: Callable[[int], RequestRow], running: str) -> None:
    row = read(request_id)
    if row.is_over:
        st.rerun()
    st.progress(row.progress, text=_WAITING.get(row.state, running))
    st.caption(f"Started {view.ago(row.asked_at)}. `deltadex doctor` checks that a worker is running.")
