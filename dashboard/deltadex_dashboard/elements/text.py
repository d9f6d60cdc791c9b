"""Common page elements: links to versions, states, times, tables, empty pages and errors."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import streamlit as st

from deltadex.access import HIDDEN
from deltadex.errors import AccessDenied, DeltadexError, StoreError
from deltadex.escaping import markdown, markdown_code, markdown_hint
from deltadex.map.chart import Chart
from deltadex.reports.colors import STATE_COLORS
from deltadex.reports.table import Cell, Table, as_csv
from deltadex.search.neighbors import Neighbor
from deltadex.settings import DEFAULT_WORKSPACE
from deltadex.types import State, VersionRow
from deltadex_dashboard import visitor
from deltadex_dashboard.charts.bars import signed_bar
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

#: Interval at which an open page checks for changed data.
_RECHECK_SECONDS = 3

#: Characters of a name that are shown.
_LONGEST = 48
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
#: The escaper of all untrusted text on a page.
plain = markdown


def ago(then: datetime | None, now: datetime | None = None) -> str:
    """Return the time since a moment, in its largest unit."""
    if then is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for length, unit in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"


def utc(then: datetime) -> str:
    """Return a time in UTC, to the second."""
    return f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def short(text: str) -> str:
    """Return a text that fits a line; a longer one ends in an ellipsis."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def full(text: str) -> str | None:
    """Return Markdown of the whole text, to show under the pointer; None if `short` shows all of it."""
    return plain(text) if len(text) > _LONGEST else None


def heading(title: str, description: str) -> None:
    """Show a page's title, and its description in one sentence."""
    st.title(title)
    st.caption(description)


def alias_badges(row: VersionRow) -> str:
    """Return Markdown for the version's aliases."""
    return " ".join(f":blue-badge[@{plain(alias)}]" for alias in row.registered.aliases)


def state_badge(state: State) -> str:
    """Return Markdown for a state: its name, with a colour."""
    return f":{STATE_COLORS[state].badge}-badge[{state}]"


@st.fragment(run_every=5)
def watcher(now: Snapshot) -> None:
    """Show the watcher's last reads of the registry, and its error if it has one."""
    state = reads.watcher(now)
    if state.error:
        st.error(f"**The watcher can't read the registry:** {plain(state.error)}")
    if state.polled_at is None:
        st.warning("The registry has not been read yet: start `deltadex watch`, or the whole stack with `deltadex up`.")
        return
    st.caption(
        f"Registry **{plain(now.settings.registry)}** · newest versions read {ago(state.polled_at)} · "
        f"compared in full {ago(state.swept_at)}"
    )


def retry_command(row: VersionRow) -> str:
    """Return Markdown for the command that embeds a version again, safe to paste into a shell."""
    return markdown_code(f"deltadex retry {shlex.quote(row.label)}")


def version_link(row: VersionRow, *, label: str | None = None) -> None:
    """Show a link to a version's page; a masked version has none."""
    model_link(row.registered.ref.name, version=row.registered.ref.version, label=label)


def model_link(name: str, *, version: int | None = None, label: str | None = None) -> None:
    """Show a link to a registered model's page, at a version or the newest; a masked model has none."""
    if name == HIDDEN:
        st.markdown(f":gray[{HIDDEN} a model that you may not see]")
        return
    params = {"model": name} | ({} if version is None else {"version": str(version)})
    if label is not None:
        st.page_link("screens/model.py", label=f":blue[{plain(label)}]", query_params=params)
        return
    text = name if version is None else f"{name}/{version}"
    st.page_link("screens/model.py", label=f":blue[{plain(short(text))}]", help=full(text), query_params=params)


def empty(message: str, next_step: str) -> None:
    """Show the reason why a page is empty, and the next step."""
    with st.container(border=True):
        st.markdown(f"**{message}**")
        st.markdown(next_step)


def nothing_embedded(now: Snapshot) -> bool:
    """Return True if there are no embeddings yet, after showing the next step."""
    if reads.recipes(now):
        return False
    if reads.all_versions(now):
        empty(
            "No version is embedded yet.",
            "The [overview](./) shows the state of each version and the reason. `deltadex doctor` checks that a worker "
            "is running.",
        )
    else:
        no_versions()
    return True


def no_versions() -> None:
    """Show the next step for a registry without model versions."""
    empty(
        "No model version has been seen yet.",
        "Register a finetune in MLflow as usual. It appears here within seconds while `deltadex watch` runs "
        "(`deltadex up` starts it). `deltadex demo` fills a registry with the trained models of a small company.",
    )


def error_page(error: DeltadexError) -> None:
    """Show an error instead of the page, or the login if the person has no access."""
    titles = {StoreError: "The store can't be reached", AccessDenied: "You have no access"}
    title = next((text for kind, text in titles.items() if isinstance(error, kind)), "Deltadex is not set up")
    st.title(title)
    st.error(plain(error.message))
    if error.hint:
        st.info(markdown_hint(error.hint))
    if not isinstance(error, AccessDenied):
        st.caption("This page retries automatically.")
    elif visitor.can_log_in():
        visitor.remember_link()
        st.button("Log in", type="primary", on_click=st.login)
        if visitor.is_logged_in():  # as a person without a role here
            st.button("Log out", type="tertiary", on_click=st.logout)
    else:
        st.caption("No identity provider is configured: see docs/reviews.md.")


def workspace_choice(now: Snapshot) -> None:
    """Show the workspace that the page is about, to choose another one, if the person has a role in several."""
    if len(now.workspaces) > 1:
        shown = now.workspaces.index(now.settings.workspace or DEFAULT_WORKSPACE)
        chosen = st.selectbox("Workspace", now.workspaces, index=shown, key="workspace-choice", width=240)
        if chosen != now.workspaces[shown]:
            visitor.choose(chosen)
            st.rerun()


def login_status(now: Snapshot) -> None:
    """Show the person who is logged in, with a button to log out."""
    if visitor.is_logged_in():
        visitor.return_to_link()
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{plain(now.person.name)}, {now.person.role}", width="content")
            st.button("Log out", key="log-out", type="tertiary", on_click=st.logout)


def rerun_on_change(shown_revision: str | None) -> None:
    """Run the page again as soon as the data have another revision than the shown one; None for an error page."""
    _rerun_on_change(shown_revision, time.monotonic())


@st.fragment(run_every=_RECHECK_SECONDS)
def _rerun_on_change(shown_revision: str | None, drawn_at: float) -> None:
    # A fragment also runs together with its page, which is then up to date; an error page would rerun forever.
    if time.monotonic() - drawn_at < _RECHECK_SECONDS / 2:
        return
    try:
        current = snapshot().revision
    except DeltadexError:
        current = None
    if current != shown_revision:
        st.rerun()


def recipe_id(now: Snapshot) -> int:
    """Show a select box of recipes, by base model, and return the id of the chosen one."""
    recipes = {recipe.digest[:12]: recipe for recipe in reads.recipes(now)}
    digest = st.selectbox(
        "Base model", list(recipes), key="recipe", bind="query-params", disabled=len(recipes) == 1,
        # The option's text is part of the link, which must keep its meaning over time and in another store.
        format_func=lambda digest: f"{recipes[digest].base_name} · {recipes[digest].probe_set} · {digest}",
    )  # fmt: skip
    return recipes[digest].id


def cluster_names(chart: Chart) -> list[str]:
    """Return the clusters' names; equal ones get their number appended."""
    names = [cluster.name for cluster in chart.clusters]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    return [f"{name} ({number})" if name in repeated else name for number, name in enumerate(names, start=1)]


def table(shown: Table, *, height: int | Literal["auto"] = "auto") -> None:
    """Show a sortable, searchable table that can be saved as the same CSV as in the report."""
    columns = {name: [row[index] for row in shown.rows] for index, name in enumerate(shown.columns)}
    times = {name for name, cells in columns.items() if any(isinstance(cell, datetime) for cell in cells)}
    st.dataframe(
        {name: _readable(cells) for name, cells in columns.items()},
        column_config={name: st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm") for name in times},
        hide_index=True, height=height, key=f"table-{shown.name}",
    )  # fmt: skip
    st.download_button(
        "Save as CSV", lambda: as_csv(shown.columns, shown.rows), f"{shown.name}.csv", "text/csv",
        key=f"csv-{shown.name}", on_click="ignore", type="tertiary",
    )  # fmt: skip


def _readable(cells: Sequence[Cell]) -> list[Cell]:
    """Return a column with empty strings for missing texts, and with times in UTC for every browser."""
    if any(isinstance(cell, int | float) for cell in cells):
        return list(cells)
    return [
        cell.astimezone(UTC).replace(tzinfo=None) if isinstance(cell, datetime) else "" if cell is None else cell
        for cell in cells
    ]


def some_links(rows: Sequence[VersionRow], *, most: int = 30) -> None:
    """Show links to versions, up to a limit."""
    for row in rows[:most]:
        version_link(row)
    if len(rows) > most:
        st.caption(f"And {len(rows) - most:,} more.")


def neighbor_list(neighbors: Sequence[Neighbor], *, link: Callable[[VersionRow], None] = version_link) -> None:
    """Show neighbours in the given order, each with its similarity and a bar, to the left for a negative one."""
    signed = any(neighbor.similarity < 0 for neighbor in neighbors)
    for neighbor in neighbors:
        name, bar, similarity = st.columns([5, 3, 2], vertical_alignment="center")
        with name:
            link(neighbor.version)
        bar.html(signed_bar(neighbor.similarity, signed=signed))
        similarity.markdown(f"{neighbor.similarity:.3f}".replace("-", "\N{MINUS SIGN}"))
    if not neighbors:
        st.caption("There is no other version to compare it with.")
