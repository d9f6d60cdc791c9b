"""The page that finds models by words, by a mixture of known ones, or from examples. Each search has a link."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from deltadex.clusters.reads import called
from deltadex.engine.example_files import MAX_BYTES, SUFFIXES, read_content, read_text
from deltadex.engine.examples import MAX_EXAMPLES
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.find import search
from deltadex.find.answers import CAVEAT, TaskModel, TaskModels
from deltadex.find.by_words import NOTHING_FOUND, models_with
from deltadex.find.mixtures import mixed_query, parse
from deltadex.find.queries import SearchRow
from deltadex.search.filters import Conditions
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.elements.asked import linked, without_result
from deltadex_dashboard.reads import models as choices
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_ERROR = "search-error"
_REFRESH_SECONDS = 1
#: Time without a further half after which the page waits for it no longer.
_SILENT = timedelta(hours=1)
_MOST_CHARACTERS = 200
_PLACEHOLDER = """{"prompt": "Which invoices are overdue?", "completion": "SELECT …"}
{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}

or CSV: prompt,completion"""
_RUNNING = "Training a small adapter on the examples."


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Find a model", "Finds models for a task: by words or known models at once, or from a few examples.")
    left, right = st.columns(2)
    words = left.text_input(
        "Words", key="words", bind="query-params", placeholder="contract clauses", max_chars=_MOST_CHARACTERS,
        help="Looked for in names, tags, descriptions and the tokens that models promote.",
    )  # fmt: skip
    like = right.text_input(
        "Like these", key="like", bind="query-params", placeholder="0.5 legal + 0.5 code", max_chars=_MOST_CHARACTERS,
        help="Domains, models or versions (`sql-writer/3`), with weights if there are several.",
    )  # fmt: skip
    conditions = _conditions(now)
    if words.strip():
        _by_words(now, words, conditions)
    if view.nothing_embedded(now):
        return
    if like.strip():
        _by_mixture(now, like, conditions)
    left, right = st.columns([2, 3], gap="large")
    with left:
        _form(now)
    with right:
        _answer(now, conditions)


def _conditions(now: Snapshot) -> Conditions | None:
    """Show the conditions on the models of every answer, and return them; None if there are none."""
    known = choices.choices(now)
    names = ("find-model", "find-domain", "find-tag")
    with st.expander("Conditions", expanded=any(st.query_params.get(name) for name in names)):
        left, middle, right = st.columns(3)
        model = left.text_input("Model", key=names[0], bind="query-params", max_chars=_MOST_CHARACTERS)
        domain = middle.selectbox("Domain", known.domains, None, key=names[1], bind="query-params", placeholder="any")
        tag = right.text_input(
            "Tag", key=names[2], bind="query-params", placeholder="team=search", max_chars=_MOST_CHARACTERS
        )
    key, _, value = tag.strip().partition("=")
    tags = {key: value} if key and value else {}
    if tag.strip() and not (key and value):
        st.warning(f"{view.plain(repr(tag))} is not a tag and its value, such as team=search, and is left out.")
    with now.transaction() as tx:
        clusters = called(tx, now.person, now.settings.registry, domain) if domain else None
    found = Conditions(name=model.strip() or None, tags=tags, clusters=clusters)
    return None if found == Conditions() else found


def _by_words(now: Snapshot, text: str, conditions: Conditions | None) -> None:
    with now.transaction() as tx:
        found = models_with(tx, now.person, now.settings.registry, text, conditions=conditions)
    if not found:
        st.caption(NOTHING_FOUND)
    for one in found:
        name, places = st.columns([3, 2], vertical_alignment="center")
        with name:
            view.version_link(one.version)
        places.caption(f"matches in {', '.join(one.places)}")
    st.divider()


def _by_mixture(now: Snapshot, text: str, conditions: Conditions | None) -> None:
    try:
        parts = parse(text)
        with now.transaction() as tx:
            query = mixed_query(tx, now.person, now.settings, parts)
            found = search.models_like(tx, now.person, query, conditions=conditions)
    except DeltadexError as error:
        st.error(_in_words(error))
        return
    said = " + ".join(f"{part.weight:g} × {meant}" for part, meant in zip(parts, query.meant, strict=True))
    st.caption(f"{view.plain(said)} · finetunes of {view.plain(query.recipe.base_name)}")
    _models(found)
    st.divider()


def _form(now: Snapshot) -> None:
    with now.transaction() as tx:
        bases = search.bases(tx, now.person, now.settings)
    st.selectbox("Base model", bases, key="find-base", disabled=len(bases) == 1)
    st.text_area("Examples, as JSON lines or CSV", key="find-examples", height=220, placeholder=_PLACEHOLDER)
    st.file_uploader(
        "Or upload a file", [suffix.removeprefix(".") for suffix in SUFFIXES], key="find-file",
        max_upload_size=MAX_BYTES >> 20,
    )  # fmt: skip
    st.button("Find models", type="primary", key="find", on_click=_start_search)
    if error := st.session_state.pop(_ERROR, None):
        st.error(error)
    st.caption(
        f"5 to 50 inputs and outputs are enough; at most {MAX_EXAMPLES} are read. A small adapter is trained on them "
        "and compared with the registry's models. Neither the adapter nor the examples are kept."
    )


def _start_search() -> None:
    file = st.session_state["find-file"]
    try:
        now = snapshot()
        pasted = st.session_state["find-examples"]
        examples = read_content(file.name, file.getvalue()) if file else read_text(pasted)
        with now.transaction() as tx:
            base = st.session_state["find-base"]
            search_id = search.ask(tx, now.person, now.settings, base, examples)
    except DeltadexError as error:
        st.session_state[_ERROR] = _in_words(error)
        return
    st.query_params["search"] = str(search_id)


def _in_words(error: DeltadexError) -> str:
    return f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}"


def _answer(now: Snapshot, conditions: Conditions | None) -> None:
    def read(search_id: int) -> SearchRow:
        return _row(now, search_id)

    coming = "The models that are closest to the examples will be listed here."
    row = linked("search", read, noun="a search", coming=coming)
    if row is None:
        return
    if row.delta:
        _of_search(now, row, conditions)
    else:
        without_result(row, read, _RUNNING)


def _row(now: Snapshot, search_id: int) -> SearchRow:
    with now.transaction() as tx:
        return search.get(tx, now.person, now.settings, search_id)


def _of_search(now: Snapshot, row: SearchRow, conditions: Conditions | None) -> None:
    if row.delta is None:
        return
    with now.transaction() as tx:
        found = search.models_for(tx, now.person, now.settings, row.delta, conditions=conditions)
    if found.certainty:
        st.caption(f"**Certainty:** {view.plain(found.certainty.in_words)}")
    if row.is_repeating and datetime.now(UTC) - row.state_since < _SILENT:
        _repeating(now, row.id, len(row.delta.halves))
    _models(found)


@st.fragment(run_every=_REFRESH_SECONDS)
def _repeating(now: Snapshot, search_id: int, seen: int) -> None:
    """Show how many halves of the examples are trained; with one more, the page is drawn again."""
    row = _row(now, search_id)
    if row.delta is None or len(row.delta.halves) != seen or not row.is_repeating:
        st.rerun()
    planned = row.delta.halves_planned
    st.progress(seen / planned, text=f"How certain this is will follow: {seen} of {planned} halves are trained.")


def _models(found: TaskModels) -> None:
    if not found.models:
        st.warning(view.plain(found.note))
        return
    said = view.plain(found.in_words)
    (st.success if found.is_close else st.warning)(f"**{said}**")
    for model in found.models:
        _model(model)
    if found.domains:
        nearest = ", ".join(f"{one.cluster.name} {one.similarity:.2f}" for one in found.domains)
        st.caption(f"Nearest domains by their mean directions: {view.plain(nearest)}.")
    exact = "" if found.is_exact else " Approximate: some models may be missing."
    caveat = f" {CAVEAT}" if found.closeness else ""
    st.caption(f"Cosine similarity in the full space, with the registry's current models.{exact}{caveat}")


def _model(one: TaskModel) -> None:
    name, bar, similarity = st.columns([5, 3, 2], vertical_alignment="center")
    with name:
        view.version_link(one.version)
        facts = [one.cluster.name if one.cluster else "", one.version.registered.owner or "", " ".join(one.words)]
        st.caption(" · ".join(view.plain(fact) for fact in facts if fact.strip()))
    bar.progress(min(max(one.similarity, 0.0), 1.0))
    similarity.markdown(f"{one.similarity:.3f}")


show(snapshot())
