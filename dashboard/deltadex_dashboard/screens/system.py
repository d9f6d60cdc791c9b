"""The system page: watcher, queue, failures, services, thresholds and recipes."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.access import Right
from deltadex.errors import DeltadexError, Resource
from deltadex.escaping import markdown_hint
from deltadex.ingest import submit
from deltadex.ingest.backfill import Backfill
from deltadex.ingest.machines import Machine
from deltadex.machine_limits import NO_LIMIT
from deltadex.reports.table import Table
from deltadex.types import UNDER_WAY, VersionRow
from deltadex.witness.queries import WitnessState
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_MOST_FAILED = 10
_MOST_LISTED = 200
_OUTCOME = "retried"


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("System", "The watcher, versions in progress and failures.")
    view.watcher(now)
    rows = reads.unsettled(now)
    if not rows and not reads.models(now):
        view.no_versions()
        return
    _outcome()
    _failures(now, [row for row in rows if row.needs_attention])
    left, right = st.columns(2, gap="large")
    with left:
        _queue(now, [row for row in rows if row.state in UNDER_WAY])
        _services(now)
        _machines(now)
        _witnesses(now)
    with right:
        _thresholds(now)
    _recipes(now)


def _failures(now: Snapshot, rows: Sequence[VersionRow]) -> None:
    st.subheader("Failures")
    if not rows:
        st.caption("There are no failures.")
        return
    for row in sorted(rows, key=lambda row: row.state_since, reverse=True)[:_MOST_FAILED]:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container():
                view.version_link(row)
                st.caption(f"{view.state_badge(row.state)} {view.ago(row.state_since)} · attempt {row.attempt}")
                st.markdown(view.plain(row.reason))
                if row.hint:
                    st.caption(markdown_hint(row.hint))
            if now.person.may(Right.DECIDE) and not row.registered.ref.is_hidden:
                st.button("Retry", key=f"retry-{row.id}", on_click=_retry, args=(row,))
    if len(rows) > _MOST_FAILED:
        st.caption(f"And {len(rows) - _MOST_FAILED:,} more: `deltadex status` lists all of them.")


def _retry(row: VersionRow) -> None:
    try:
        now = snapshot()
        with now.transaction() as tx:
            attempt = submit.retry(tx, now.person, row)
    except DeltadexError as error:
        st.session_state[_OUTCOME] = (st.error, f"{view.plain(error.message)} Try {view.retry_command(row)}.")
    else:
        st.session_state[_OUTCOME] = (st.success, f"{view.plain(row.label)} is queued again, as attempt {attempt}.")


def _outcome() -> None:
    show_message, text = st.session_state.pop(_OUTCOME, (None, ""))
    if show_message is not None:
        show_message(text)


def _queue(now: Snapshot, rows: Sequence[VersionRow]) -> None:
    st.subheader("In progress")
    if not rows:
        st.caption("No versions are in progress.")
        return
    st.markdown(_progress(reads.backfill(now)))
    columns = ("version", "state", "queue", "attempt", "since")
    first = sorted(rows, key=lambda row: row.state, reverse=True)[:_MOST_LISTED]  # running ones
    cells = tuple((row.label, row.state.value, row.queue.value, row.attempt, row.state_since) for row in first)
    view.table(Table("in-progress", "In progress", columns, cells))


def _progress(backfill: Backfill) -> str:
    counts = f"{backfill.left:,} version(s) wait or are under way, {backfill.embedded:,} embedded."
    if backfill.is_paused:
        return f"{counts} The backfill is **paused**: `deltadex backfill resume` lets it go on."
    if backfill.minutes_left is None:
        return counts
    return f"{counts} At {backfill.per_minute:.0f} a minute, {backfill.minutes_left:.0f} minutes are left."


def _services(now: Snapshot) -> None:
    st.subheader("Services")
    services = {"MLflow": now.settings.tracking_uri, "Prefect": now.settings.prefect_api_url}
    for name, url in services.items():
        st.markdown(f"{name}: {url}" if url else f"{name}: no address is set for the dashboard")
    st.caption("`deltadex doctor` checks every connection.")


def _machines(now: Snapshot) -> None:
    st.subheader("Machines")
    machines = reads.online_machines(now)
    if not machines:
        st.caption("No worker of Deltadex's own type has reported in the last two minutes.")
        return
    columns = ("machine", "memory, GB", "GPU, GB", "disk, GB", "seconds per version", "last report")
    rows = tuple(
        (
            one.name.partition(":")[0],
            one.limits[Resource.MEMORY] / 1e9,
            _gpu_gigabytes(one),
            one.limits[Resource.DISK] / 1e9,
            one.limits[Resource.TIME],
            one.seen_at,
        )
        for one in machines
    )
    view.table(Table("machines", "Machines", columns, rows))


def _witnesses(now: Snapshot) -> None:
    st.subheader("Witnesses")
    witnesses = reads.witnesses(now)
    if not witnesses:
        st.caption("None is set: `DELTADEX_WITNESSES` names where the head of the decision log is published.")
        return
    for one in witnesses:
        if one.contradiction:
            st.error(f"**{view.plain(one.name)}**: {view.plain(one.contradiction)}")
    columns = ("witness", "entries", "published", "compared", "problem")
    rows = tuple((one.name, one.entries, one.published_at, one.asked_at, _problem(one)) for one in witnesses)
    view.table(Table("witnesses", "Witnesses of the decision log", columns, rows))


def _problem(one: WitnessState) -> str:
    if one.contradiction:
        return "contradicts the log"
    return f"attempt {one.attempts}: {one.error}" if one.error else one.caution


def _gpu_gigabytes(machine: Machine) -> float | None:
    limit = machine.limits.get(Resource.GPU, NO_LIMIT)
    return None if limit == NO_LIMIT else limit / 1e9


def _thresholds(now: Snapshot) -> None:
    st.subheader("Thresholds")
    settings = now.settings.thresholds
    rows = tuple((name, _formatted(value), type(settings).model_fields[name].description) for name, value in settings)
    view.table(Table("thresholds", "Thresholds", ("setting", "value", "meaning"), rows))


def _formatted(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _recipes(now: Snapshot) -> None:
    st.subheader("Recipes")
    st.caption(
        f"New versions are embedded by the method **{reads.own_method(now)}**. `deltadex method` changes it, and then "
        "embeds all others again."
    )
    recipes = reads.recipes(now)
    if not recipes:
        st.caption("None yet: the first embedded version creates one.")
        return
    columns = ("base model", "probes", "versions", "dimension", "noise floor", "recipe", "base digest")
    rows = tuple(
        (
            one.base_name,
            one.probe_set,
            one.embedded,
            one.dimension,
            one.noise_floor,
            one.digest[:16],
            one.base_digest[:16],
        )
        for one in recipes
    )
    view.table(Table("recipes", "Recipes", columns, rows))


show(snapshot())
