"""What several pages show in the same way: links to versions, states, times, empty pages and trouble."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import streamlit as st

from deltadex.domain import FindingKind, State, VersionRow
from deltadex.errors import DeltadexError, StoreError
from deltadex.store.search import Neighbor
from deltadex_dashboard import reads

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
    FindingKind.DRIFT: "Drift",
    FindingKind.WRONG_BASE: "Wrong base",
    FindingKind.TOO_WEAK: "Too weak to place",
    FindingKind.LABEL_CONTRADICTED: "Label contradicted",
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


def version_link(row: VersionRow, *, label: str | None = None) -> None:
    """Link to a version's page."""
    model_link(row.registered.ref.name, version=row.registered.ref.version, label=label or row.label)


def model_link(name: str, *, version: int | None = None, label: str | None = None) -> None:
    """Link to a registered model's page, at one of its versions or at its newest."""
    params = {"model": name} | ({} if version is None else {"version": str(version)})
    st.page_link("screens/model.py", label=f":blue[{plain(label or name)}]", query_params=params)


def empty(message: str, next_step: str) -> None:
    """Say why there is nothing to see, and what would change that."""
    with st.container(border=True):
        st.markdown(f"**{message}**")
        st.markdown(next_step)


def nothing_embedded(now: reads.Snapshot) -> bool:
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
    title = "The store can't be reached" if isinstance(error, StoreError) else "Deltadex is not set up"
    st.title(title)
    st.error(plain(error.message))
    if error.hint:
        # A hint is our own text and holds commands.
        st.info(error.hint)
    st.caption("This page tries again by itself.")


def follow(shown: str | None) -> None:
    """Run the page again as soon as the data are no longer the ones it shows; `shown` is None where it has none."""
    _follow(shown, time.monotonic())


@st.fragment(run_every=_FOLLOW_SECONDS)
def _follow(shown: str | None, drawn_at: float) -> None:
    # A fragment also runs together with its page, which has just looked itself; a page in trouble would run for ever.
    if time.monotonic() - drawn_at < _FOLLOW_SECONDS / 2:
        return
    try:
        current = reads.snapshot().revision
    except DeltadexError:
        current = None
    if current != shown:
        st.rerun()


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
