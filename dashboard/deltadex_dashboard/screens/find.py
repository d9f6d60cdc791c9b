"""The page that finds models for a task from examples. Each search has a link that can be shared."""

from __future__ import annotations

import streamlit as st

from deltadex.asked.queries import AskedState
from deltadex.engine.examples import MAX_CHARACTERS, MAX_EXAMPLES, read_examples
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.find import queries as task_searches
from deltadex.find import search
from deltadex.find.by_words import NOTHING_FOUND, models_with
from deltadex.find.queries import SearchRow
from deltadex.find.search import TaskModel
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_ERROR = "search-error"
_REFRESH_SECONDS = 1
_MOST_WORDS_CHARACTERS = 200
_MEGABYTES = MAX_EXAMPLES * MAX_CHARACTERS // 1_000_000
_PLACEHOLDER = """{"prompt": "Which invoices are overdue?", "completion": "SELECT …"}
{"text": "…"}
{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}"""
_PROGRESS_TEXTS = {
    AskedState.ASKED: "Waiting for the watcher, which starts the search within seconds.",
    AskedState.QUEUED: "Waiting for a worker.",
    AskedState.RUNNING: "Training a small adapter on the examples.",
}


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Find a model", "Finds models for a task: by words at once, or from a few examples.")
    _by_words(now)
    if view.nothing_embedded(now):
        return
    left, right = st.columns([2, 3], gap="large")
    with left:
        _form(now)
    with right:
        _answer(now)


def _by_words(now: Snapshot) -> None:
    text = st.text_input(
        "Words", key="words", bind="query-params", placeholder="contract clauses", max_chars=_MOST_WORDS_CHARACTERS,
        help="Looked for in names, tags, descriptions and the tokens that models promote.",
    )  # fmt: skip
    if not text.strip():
        return
    with now.transaction() as tx:
        found = models_with(tx, now.person, now.settings.registry, text)
    if not found:
        st.caption(NOTHING_FOUND)
    for one in found:
        name, places = st.columns([3, 2], vertical_alignment="center")
        with name:
            view.version_link(one.version)
        places.caption(f"matches in {', '.join(one.places)}")
    st.divider()


def _form(now: Snapshot) -> None:
    with now.transaction() as tx:
        bases = search.bases(tx, now.settings)
    st.selectbox("Base model", bases, key="find-base", disabled=len(bases) == 1)
    st.text_area("Examples, one JSON object per line", key="find-examples", height=220, placeholder=_PLACEHOLDER)
    st.file_uploader("Or upload a file", ["jsonl", "json", "txt"], key="find-file", max_upload_size=_MEGABYTES)
    st.button("Find models", type="primary", key="find", on_click=_start_search)
    if error := st.session_state.pop(_ERROR, None):
        st.error(error)
    st.caption(
        "A small adapter is trained on the examples and compared with the registry's models. Neither the adapter nor "
        "the examples are kept."
    )


def _start_search() -> None:
    file = st.session_state["find-file"]
    try:
        now = snapshot()
        examples = read_examples(
            file.getvalue().decode(errors="replace") if file else st.session_state["find-examples"]
        )
        with now.transaction() as tx:
            base = st.session_state["find-base"]
            search_id = search.ask(tx, now.person, now.settings, base, examples)
    except DeltadexError as error:
        st.session_state[_ERROR] = f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}"
        return
    st.query_params["search"] = str(search_id)


def _answer(now: Snapshot) -> None:
    search_id = st.query_params.get("search", "")
    if not search_id.isdecimal():
        if search_id:
            st.warning(view.plain(f"{search_id!r} in the link is not the number of a search."))
        view.empty("There is no search yet.", "The models that are closest to the examples will be listed here.")
        return
    try:
        row = _row(now, int(search_id))
    except DeltadexError as error:
        st.error(f"{view.plain(error.message)}. {markdown_hint(error.hint)}")
        return
    st.subheader(f"Search {row.id}")
    examples = f"{row.examples_count} example{'s' * (row.examples_count > 1)}"
    st.caption(f"{examples} · {view.plain(row.base_name)} · {view.plain(row.asked_by)}, {view.ago(row.asked_at)}")
    if row.delta:
        _models(now, row)
    elif row.is_over:
        st.error(f"**{view.plain(row.reason)}** {markdown_hint(row.hint)}")
    else:
        _progress(now, row.id)


@st.fragment(run_every=_REFRESH_SECONDS)
def _progress(now: Snapshot, search_id: int) -> None:
    row = _row(now, search_id)
    if row.is_over:
        st.rerun()
    st.progress(row.progress, text=_PROGRESS_TEXTS[row.state])
    st.caption(f"Started {view.ago(row.asked_at)}. `deltadex doctor` checks that a worker is running.")


def _row(now: Snapshot, search_id: int) -> SearchRow:
    with now.transaction() as tx:
        return task_searches.get(tx, now.settings.registry, search_id)


def _models(now: Snapshot, row: SearchRow) -> None:
    if row.delta is None:
        return
    with now.transaction() as tx:
        found = search.models_for(tx, now.person, now.settings, row.delta)
    if found.note:
        st.warning(view.plain(found.note))
    for model in found.models:
        _model(model)
    if found.models:
        exact = "" if found.is_exact else " Approximate: some models may be missing."
        st.caption(f"Cosine similarity in the full space, with the registry's current models.{exact} {search.CAVEAT}")


def _model(one: TaskModel) -> None:
    name, bar, similarity = st.columns([5, 3, 2], vertical_alignment="center")
    with name:
        view.version_link(one.version)
        facts = [one.cluster.name if one.cluster else "", one.version.registered.owner or "", " ".join(one.words)]
        st.caption(" · ".join(view.plain(fact) for fact in facts if fact.strip()))
    bar.progress(min(max(one.similarity, 0.0), 1.0))
    similarity.markdown(f"{one.similarity:.3f}")


show(snapshot())
