"""What several pages show in the same way: links to versions, states, times, empty pages and trouble."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import streamlit as st

from deltadex.domain import FindingKind, State, VersionRow
from deltadex.errors import AccessDenied, DeltadexError, StoreError
from deltadex.governance.access import HIDDEN
from deltadex.governance.report import Cell, Table, as_csv
from deltadex.store.search import Neighbor
from deltadex_dashboard import reads, visitor
from deltadex_dashboard.snapshots import Snapshot, snapshot

#: How often an open page looks whether the data have changed.
_FOLLOW_SECONDS = 3

STATE_COLORS: Mapping[State, str] = {
    State.DISCOVERED: "gray",
    State.QUEUED: "blue",
    State.RUNNING: "violet",
    State.WAITING: "yellow",
    State.EMBEDDED: "green",
    State.UNSUPPORTED: "orange",
    State.FAILED: "red",
    State.DELETED: "gray",
}
FINDING_NAMES: Mapping[FindingKind, str] = {
    FindingKind.EXACT_DUPLICATE: "Same weights",
    FindingKind.NEAR_DUPLICATE: "Near duplicates",
    FindingKind.SAME_TASK: "Same task",
    FindingKind.DRIFT: "Drift",
    FindingKind.WRONG_BASE: "Wrong base",
    FindingKind.LABEL_CONTRADICTED: "Label contradicted",
    FindingKind.TOO_WEAK: "Too weak to place",
    FindingKind.FAILED: "Embedding failed",
    FindingKind.UNSUPPORTED: "Not supported",
    FindingKind.LICENSE: "Licence",
}
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-!|~<>$:.])")


def plain(text: str) -> str:
    """Return text that Markdown shows as it is: names and reasons come from other people's files."""
    return _MARKDOWN.sub(r"\\\1", text)


def ago(then: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago something was, in its largest unit."""
    if then is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for length, unit in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"


def utc(then: datetime) -> str:
    """Return a moment to the second, in UTC whatever the database's time zone."""
    return f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def registered_at(row: VersionRow) -> datetime:
    """Return when the version was registered in MLflow."""
    return datetime.fromtimestamp(row.registered.ref.created_ms / 1000, UTC)


def heading(title: str, what: str) -> None:
    """Open a page: its name, and what it shows in one sentence."""
    st.title(title)
    st.caption(what)


def alias_badges(row: VersionRow) -> str:
    """Return Markdown for the version's aliases."""
    return " ".join(f":blue-badge[@{plain(alias)}]" for alias in row.registered.aliases)


def state_badge(state: State) -> str:
    """Return Markdown for a state: a word, with a colour."""
    return f":{STATE_COLORS[state]}-badge[{state}]"


@st.fragment(run_every=5)
def watcher(now: Snapshot) -> None:
    """Say when the registry was read, and whether that works."""
    state = reads.watcher(now)
    if state.error:
        st.error(f"**The watcher can't read the registry:** {plain(state.error)}")
    if state.polled_at is None:
        st.warning("Nobody has read the registry yet: start `deltadex watch`, or the whole stack with `deltadex up`.")
        return
    st.caption(
        f"Registry **{plain(now.settings.registry)}** · newest versions read {ago(state.polled_at)} · "
        f"compared in full {ago(state.swept_at)}"
    )


def version_link(row: VersionRow, *, label: str | None = None) -> None:
    """Link to a version's page; a masked one has none."""
    model_link(row.registered.ref.name, version=row.registered.ref.version, label=label or row.label)


def model_link(name: str, *, version: int | None = None, label: str | None = None) -> None:
    """Link to a registered model's page, at one of its versions or at its newest; a masked one has none."""
    if name == HIDDEN:
        st.markdown(f":gray[{HIDDEN} a model that you may not see]")
        return
    params = {"model": name} | ({} if version is None else {"version": str(version)})
    st.page_link("screens/model.py", label=f":blue[{plain(label or name)}]", query_params=params)


def empty(message: str, next_step: str) -> None:
    """Say why there is nothing to see, and what would change that."""
    with st.container(border=True):
        st.markdown(f"**{message}**")
        st.markdown(next_step)


def nothing_embedded(now: Snapshot) -> bool:
    """Say what to do where there are no embeddings yet, and whether that is so."""
    if reads.recipes(now):
        return False
    if reads.all_versions(now):
        empty(
            "No version is embedded yet.",
            "The [overview](./) shows where each one stands and what keeps it. `deltadex doctor` checks that a worker "
            "is running.",
        )
    else:
        no_versions()
    return True


def no_versions() -> None:
    """Say what to do where the registry holds nothing."""
    empty(
        "No model version has been seen yet.",
        "Register a finetune in MLflow as you always do: it appears here within seconds while `deltadex watch` runs "
        "(`deltadex up` starts it). `deltadex demo` fills a registry with a small company of really trained models.",
    )


def trouble(error: DeltadexError) -> None:
    """Say what keeps a page from being shown, and go on as soon as it is over."""
    titles = {StoreError: "The store can't be reached", AccessDenied: "You have no access"}
    title = next((one for kind, one in titles.items() if isinstance(error, kind)), "Deltadex is not set up")
    st.title(title)
    st.error(plain(error.message))
    if error.hint:
        # A hint is our own text and holds commands.
        st.info(error.hint)
    if not isinstance(error, AccessDenied):
        st.caption("This page tries again by itself.")
    elif visitor.can_log_in():
        visitor.remember_link()
        st.button("Log in", type="primary", on_click=st.login)
        if visitor.is_logged_in():  # as somebody without a role here
            st.button("Log out", type="tertiary", on_click=st.logout)
    else:
        st.caption("No identity provider is configured: see docs/reviews.md.")


def who(now: Snapshot) -> None:
    """Say who is logged in, where somebody is, and let them out."""
    if visitor.is_logged_in():
        visitor.return_to_link()
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{plain(now.person.name)}, {now.person.role}", width="content")
            st.button("Log out", key="log-out", type="tertiary", on_click=st.logout)


def follow(shown: str | None) -> None:
    """Run the page again as soon as the data are no longer the ones it shows; `shown` is None where it has none."""
    _follow(shown, time.monotonic())


@st.fragment(run_every=_FOLLOW_SECONDS)
def _follow(shown: str | None, drawn_at: float) -> None:
    # A fragment also runs together with its page, which has just looked itself; a page in trouble would run for ever.
    if time.monotonic() - drawn_at < _FOLLOW_SECONDS / 2:
        return
    try:
        current = snapshot().revision
    except DeltadexError:
        current = None
    if current != shown:
        st.rerun()


def recipe_id(now: Snapshot) -> int:
    """Let a person choose the space that a page is about, and return its row."""
    recipes = {recipe.digest[:12]: recipe for recipe in reads.recipes(now)}
    digest = st.selectbox(
        "Base model", list(recipes), key="recipe", bind="query-params", disabled=len(recipes) == 1,
        # What is shown stands in the link, which must mean the same thing tomorrow and in another store.
        format_func=lambda digest: f"{recipes[digest].base_name} · {digest}",
    )  # fmt: skip
    return recipes[digest].id


def cluster_names(chart: reads.Chart) -> list[str]:
    """Return the clusters' names, told apart by their number where two are the same."""
    names = [cluster.name for cluster in chart.clusters]
    often = {name for name, count in Counter(names).items() if count > 1}
    return [f"{name} ({number})" if name in often else name for number, name in enumerate(names, start=1)]


def table(shown: Table, *, height: int | Literal["auto"] = "auto") -> None:
    """Show a table that can be sorted and searched, and saved as the same CSV as the report's."""
    columns = {name: [row[place] for row in shown.rows] for place, name in enumerate(shown.columns)}
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
    """Return a column with nothing where a text is missing, and times in UTC whatever the browser's zone."""
    if any(isinstance(cell, int | float) for cell in cells):
        return list(cells)
    return [
        cell.astimezone(UTC).replace(tzinfo=None) if isinstance(cell, datetime) else "" if cell is None else cell
        for cell in cells
    ]


def some_links(rows: Sequence[VersionRow], *, most: int = 30) -> None:
    """Link to versions, but to no more than a reader would look through."""
    for row in rows[:most]:
        version_link(row)
    if len(rows) > most:
        st.caption(f"And {len(rows) - most:,} more.")


def neighbor_list(neighbors: Sequence[Neighbor], *, link: Callable[[VersionRow], None] = version_link) -> None:
    """List neighbours with their similarity, closest first, each with a bar from 0 to 1."""
    for one in neighbors:
        name, bar, similarity = st.columns([5, 3, 2], vertical_alignment="center")
        with name:
            link(one.version)
        bar.progress(min(max(one.similarity, 0.0), 1.0))
        similarity.markdown(f"{one.similarity:.3f}")
    if not neighbors:
        st.caption("Nothing to compare it with.")
