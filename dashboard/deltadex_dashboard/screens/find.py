"""Which models are for a task that somebody has a few examples of. A search is a link that can be shared."""

from __future__ import annotations

import streamlit as st

from deltadex import task_search
from deltadex.errors import DeltadexError
from deltadex.examples import MOST_CHARACTERS, MOST_EXAMPLES, read_examples
from deltadex.store import task_searches
from deltadex.store.task_searches import SearchRow, SearchState
from deltadex.task_search import TaskModel
from deltadex_dashboard import view
from deltadex_dashboard.snapshots import Snapshot, snapshot

_REFUSED = "search-refused"
_LOOK_SECONDS = 1
_MEGABYTES = MOST_EXAMPLES * MOST_CHARACTERS // 1_000_000
_PLACEHOLDER = """{"prompt": "Which invoices are overdue?", "completion": "SELECT …"}
{"text": "…"}
{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}"""
_WAITS = {
    SearchState.ASKED: "Waits for the watcher, which starts it within seconds.",
    SearchState.QUEUED: "Waits for a worker.",
    SearchState.RUNNING: "Trains a small adapter on the examples.",
}


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Find a model", "The models for a task that you have a few examples of.")
    if view.nothing_embedded(now):
        return
    left, right = st.columns([2, 3], gap="large")
    with left:
        _form(now)
    with right:
        _answer(now)


def _form(now: Snapshot) -> None:
    with now.transaction() as tx:
        bases = task_search.bases(tx, now.settings)
    st.selectbox("Base model", bases, key="find-base", disabled=len(bases) == 1)
    st.text_area("Examples, one JSON object a line", key="find-examples", height=220, placeholder=_PLACEHOLDER)
    st.file_uploader("Or a file of them", ["jsonl", "json", "txt"], key="find-file", max_upload_size=_MEGABYTES)
    st.button("Find models", type="primary", key="find", on_click=_ask)
    if refused := st.session_state.pop(_REFUSED, None):
        st.error(refused)
    st.caption(
        "A small adapter is trained on them and compared with the registry's models. Neither it nor the examples are "
        "kept."
    )


def _ask() -> None:
    file = st.session_state["find-file"]
    try:
        now = snapshot()
        examples = read_examples(
            file.getvalue().decode(errors="replace") if file else st.session_state["find-examples"]
        )
        with now.transaction() as tx:
            base = st.session_state["find-base"]
            search_id = task_search.ask(tx, now.person, now.settings, base, examples)
    except DeltadexError as error:
        st.session_state[_REFUSED] = f"**{view.plain(error.message)}.** {view.plain(error.hint)}"
        return
    st.query_params["search"] = str(search_id)


def _answer(now: Snapshot) -> None:
    asked = st.query_params.get("search", "")
    if not asked.isdigit():
        view.empty("Nothing has been searched for.", "The models that are nearest to the examples will be listed here.")
        return
    try:
        row = _row(now, int(asked))
    except DeltadexError as error:
        st.error(f"{view.plain(error.message)}. {view.plain(error.hint)}")
        return
    st.subheader(f"Search {row.id}")
    examples = f"{row.examples_count} example{'s' * (row.examples_count > 1)}"
    st.caption(f"{examples} · {view.plain(row.base_name)} · {view.plain(row.asked_by)}, {view.ago(row.asked_at)}")
    if row.delta:
        _models(now, row)
    elif row.is_over:
        st.error(f"**{view.plain(row.reason)}** {view.plain(row.hint)}")
    else:
        _progress(now, row.id)


@st.fragment(run_every=_LOOK_SECONDS)
def _progress(now: Snapshot, search_id: int) -> None:
    row = _row(now, search_id)
    if row.is_over:
        st.rerun()
    st.progress(row.progress, text=_WAITS[row.state])
    st.caption(f"For {view.ago(row.asked_at).removesuffix(' ago')}. `deltadex doctor` says whether a worker is there.")


def _row(now: Snapshot, search_id: int) -> SearchRow:
    with now.transaction() as tx:
        return task_searches.get(tx, now.settings.registry, search_id)


def _models(now: Snapshot, row: SearchRow) -> None:
    if row.delta is None:
        return
    with now.transaction() as tx:
        found = task_search.models_for(tx, now.person, now.settings, row.delta)
    if found.note:
        st.warning(view.plain(found.note))
    for one in found.models:
        _model(one)
    if found.models:
        exact = "" if found.is_exact else " Approximate: others may be as close."
        st.caption(f"Cosine similarity in the full space, as the registry is now.{exact} {task_search.CAVEAT}")


def _model(one: TaskModel) -> None:
    name, bar, similarity = st.columns([5, 3, 2], vertical_alignment="center")
    with name:
        view.version_link(one.version)
        facts = [one.cluster.name if one.cluster else "", one.version.registered.owner or "", " ".join(one.words)]
        st.caption(" · ".join(view.plain(fact) for fact in facts if fact.strip()))
    bar.progress(min(max(one.similarity, 0.0), 1.0))
    similarity.markdown(f"{one.similarity:.3f}")


show(snapshot())
