"""The page that advises on a task from examples. Each advice has a link that can be shared."""

from __future__ import annotations

import streamlit as st

from deltadex.advise import reads as advice
from deltadex.advise import words
from deltadex.advise.advice import Advice
from deltadex.advise.ask import ask, checked
from deltadex.advise.estimate import estimate
from deltadex.advise.queries import AdviceOrder, AdviceRow
from deltadex.advise.rule import ENOUGH_EXAMPLES
from deltadex.advise.selectors import SELECTORS
from deltadex.engine.example_files import MAX_BYTES, SUFFIXES, read_content, read_text
from deltadex.engine.examples import Example
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.find import search
from deltadex.versions.labels import known_version, parse_label
from deltadex_dashboard.charts.intervals import IntervalRow, interval_rows
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.elements.asked import linked, without_result
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_ERROR = "advice-error"
_PLACEHOLDER = '{"prompt": "Which invoices are overdue?", "completion": "SELECT …"}'
_RUNNING = "Scoring the options on the examples."


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Advise", "Reuse a finetune, prompt the base, merge two, or train? Measured on examples of the task.")
    if view.nothing_embedded(now):
        return
    left, right = st.columns([2, 3], gap="large")
    with left:
        _form(now)
    with right:
        _answer(now)


def _form(now: Snapshot) -> None:
    with now.transaction() as tx:
        bases = search.bases(tx, now.person, now.settings)
    if not bases:
        view.empty("No base is known yet.", "Set DELTADEX_BASES, or register a finetune.")
        return
    st.selectbox("Base model", bases, key="advice-base", disabled=len(bases) == 1)
    st.text_area("Examples, as JSON lines or CSV", key="advice-examples", height=180, placeholder=_PLACEHOLDER)
    st.file_uploader(
        "Or upload a file", [suffix.removeprefix(".") for suffix in SUFFIXES], key="advice-file",
        max_upload_size=MAX_BYTES >> 20,
    )  # fmt: skip
    st.text_area(
        "Finetunes to score, one NAME/VERSION per line", key="advice-candidates", height=68,
        placeholder="Empty: the nearest ones are looked for",
    )  # fmt: skip
    kind, count = st.columns(2)
    kind.selectbox("In-context examples by", [*SELECTORS], index=[*SELECTORS].index("bm25"), key="advice-selector")
    count.number_input("Per input", 1, 64, now.settings.advise.shots, key="advice-shots")
    st.checkbox("Also train on the examples, and score that", key="advice-train")
    st.number_input("Calls per month, for costs", 0, value=None, step=1000, key="advice-calls")
    _say_time(now)
    st.button("Advise", type="primary", key="advise", on_click=_start)
    if error := st.session_state.pop(_ERROR, None):
        st.error(error)
    st.caption("What is made of examples is never scored on the same ones. The examples are not kept.")


def _say_time(now: Snapshot) -> None:
    """State the expected time before anything starts, or what is wrong with the examples."""
    try:
        examples = _examples()
        order = checked(now.settings, _order(now), examples)
        with now.transaction() as tx:
            expected = estimate(tx, now.settings, st.session_state["advice-base"], order.work)
    except DeltadexError as error:
        if st.session_state["advice-examples"] or st.session_state["advice-file"]:
            st.caption(f"{view.plain(error.message)}. {markdown_hint(error.hint)}")
        return
    few = f" Fewer than {ENOUGH_EXAMPLES} get no recommendation." if len(examples) < ENOUGH_EXAMPLES else ""
    st.caption(f"{len(examples):,} examples.{few} {view.plain(str(expected))}")


def _examples() -> tuple[Example, ...]:
    file = st.session_state["advice-file"]
    return read_content(file.name, file.getvalue()) if file else read_text(st.session_state["advice-examples"])


def _order(now: Snapshot) -> AdviceOrder:
    state = st.session_state
    labels = [line.strip() for line in state["advice-candidates"].splitlines() if line.strip()]
    with now.transaction() as tx:
        ids = tuple(known_version(tx, now.person, now.settings.registry, *parse_label(label)).id for label in labels)
    return AdviceOrder(
        state["advice-selector"], state["advice-shots"], ids, state["advice-train"], state["advice-calls"]
    )


def _start() -> None:
    try:
        now = snapshot()
        examples, order = _examples(), _order(now)
        with now.transaction() as tx:
            request_id = ask(tx, now.person, now.settings, st.session_state["advice-base"], examples, order)
    except DeltadexError as error:
        st.session_state[_ERROR] = f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}"
        return
    st.query_params["advice"] = str(request_id)


def _answer(now: Snapshot) -> None:
    def read(request_id: int) -> AdviceRow:
        return _row(now, request_id)

    row = linked("advice", read, noun="an advice", coming="The options for the task will be compared here.")
    if row is None:
        return
    if row.advice:
        _result(row.advice)
        st.caption(f"`deltadex advise --show {row.id}` prints it.")
    else:
        without_result(row, read, _RUNNING)


def _row(now: Snapshot, request_id: int) -> AdviceRow:
    with now.transaction() as tx:
        return advice.get(tx, now.person, now.settings, request_id)


def _result(found: Advice) -> None:
    st.info(f"**{view.plain(words.recommendation(found))}**")
    for reason in words.reasons(found):
        st.markdown(view.plain(reason))
    rows = [
        IntervalRow(words.TITLES[one.choice], one.nats_per_token, one.choice is found.recommended)
        for one in found.options
    ]
    rows += [IntervalRow(f"· {one.candidate.label}", one.nats_per_token) for one in found.candidates]
    st.html(interval_rows(rows, unit="nats per token of the reference answers; lower is better"))
    used = " · ".join(f"{words.TITLES[one.choice]} {one.usage.per_call:,.0f}" for one in found.options)
    st.caption(f"Tokens per call: {used}. Intervals are of 95 %. Single finetunes were not chosen and scored apart.")
    for warning in words.warnings(found):
        st.caption(f"Note: {view.plain(warning)}")


show(snapshot())
