"""Whether everything runs: watcher, queue, what failed, and what numbers are made with."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex import discovery
from deltadex.domain import UNDER_WAY, State, VersionRow
from deltadex.errors import DeltadexError
from deltadex.governance.access import HIDDEN, Right
from deltadex.governance.report import Table
from deltadex_dashboard import reads, view
from deltadex_dashboard.snapshots import Snapshot, snapshot

_MOST_FAILED = 10
_OUTCOME = "retried"


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("System", "Whether the registry is read, what is under way, and what failed.")
    view.watcher(now)
    rows = reads.unsettled(now)
    if not rows and not reads.models(now):
        view.no_versions()
        return
    _outcome()
    _failures(now, [row for row in rows if row.state in (State.FAILED, State.WAITING)])
    left, right = st.columns(2, gap="large")
    with left:
        _queue([row for row in rows if row.state in UNDER_WAY])
        _services(now)
    with right:
        _thresholds(now)
    _recipes(now)


def _failures(now: Snapshot, rows: Sequence[VersionRow]) -> None:
    st.subheader("Failures")
    if not rows:
        st.caption("None: every version that was tried is embedded.")
        return
    for row in sorted(rows, key=lambda row: row.state_since, reverse=True)[:_MOST_FAILED]:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container():
                view.version_link(row)
                st.caption(f"{view.state_badge(row.state)} {view.ago(row.state_since)} · attempt {row.attempt}")
                st.markdown(view.plain(row.reason))
                if row.hint:
                    st.caption(row.hint)
            if now.person.may(Right.DECIDE) and row.registered.ref.name != HIDDEN:
                st.button("Retry", key=f"retry-{row.id}", on_click=_retry, args=(row,))
    if len(rows) > _MOST_FAILED:
        st.caption(f"And {len(rows) - _MOST_FAILED:,} more: `deltadex status` lists them all.")


def _retry(row: VersionRow) -> None:
    try:
        now = snapshot()
        with now.transaction() as tx:
            attempt = discovery.retry(tx, now.person, row)
    except DeltadexError as error:
        st.session_state[_OUTCOME] = (st.error, f"{view.plain(error.message)} Try `deltadex retry {row.label}`.")
    else:
        st.session_state[_OUTCOME] = (st.success, f"{view.plain(row.label)} is queued again, as attempt {attempt}.")


def _outcome() -> None:
    say, text = st.session_state.pop(_OUTCOME, (None, ""))
    if say is not None:
        say(text)


def _queue(rows: Sequence[VersionRow]) -> None:
    st.subheader("Under way")
    if not rows:
        st.caption("Nothing waits.")
        return
    columns = ("version", "state", "queue", "attempt", "since")
    made = tuple((row.label, row.state.value, row.queue.value, row.attempt, row.state_since) for row in rows)
    view.table(Table("under-way", "Under way", columns, made))


def _services(now: Snapshot) -> None:
    st.subheader("Services")
    services = {"MLflow": now.settings.tracking_uri, "Prefect": now.settings.prefect_api_url}
    for name, url in services.items():
        st.markdown(f"{name}: {url}" if url else f"{name}: no address is set for this page")
    st.caption("`deltadex doctor` checks every connection.")


def _thresholds(now: Snapshot) -> None:
    st.subheader("Thresholds")
    settings = now.settings.thresholds
    rows = tuple((name, _said(value), type(settings).model_fields[name].description) for name, value in settings)
    view.table(Table("thresholds", "Thresholds", ("setting", "value", "is"), rows))


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _recipes(now: Snapshot) -> None:
    st.subheader("Recipes")
    recipes = reads.recipes(now)
    if not recipes:
        st.caption("None yet: the first embedded version makes one.")
        return
    columns = ("base model", "versions", "dimension", "noise floor", "recipe", "base digest")
    rows = tuple(
        (one.base_name, one.embedded, one.dimension, one.noise_floor, one.digest[:16], one.base_digest[:16])
        for one in recipes
    )
    view.table(Table("recipes", "Recipes", columns, rows))


show(snapshot())
