"""Replays on the page of a group: whether the version to keep answers like those to retire."""

from __future__ import annotations

import streamlit as st

from deltadex.access import Right
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.replay import reads as replays
from deltadex.replay.agreement import ENOUGH_PROMPTS
from deltadex.replay.ask import ask
from deltadex.replay.estimate import estimate
from deltadex.replay.prompts import read_prompts
from deltadex.reviews.queries import ReviewRow
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_MOST_SHOWN = 5


def show(now: Snapshot, row: ReviewRow) -> None:
    """Show the latest replays of a group's keeper with the versions to retire, and a form for another one."""
    keeper, targets = row.plan.keeper, row.plan.targets
    if keeper is None or not targets:
        return
    st.subheader("Do they answer alike?")
    for target in targets[:_MOST_SHOWN]:
        _latest(now, keeper.id, target.id, target.version)
    if now.person.may(Right.DECIDE):
        with st.expander("Let them answer prompts"):
            _form(now, keeper.id, {target.id: target.version for target in targets})


def _latest(now: Snapshot, keeper_id: int, other_id: int, other: str) -> None:
    with now.transaction() as tx:
        found = replays.latest_between(tx, now.person, now.settings, keeper_id, other_id)
    if found is None:
        st.caption(f"{view.plain(other)}: never replayed.")
    elif found.agreement is not None:
        st.markdown(f"**{view.plain(other)}**: {view.plain(found.agreement.verdict)}")
    elif found.is_over:
        st.error(f"**{view.plain(other)}: replay {found.id} failed:** {view.plain(found.reason)}")
        st.caption(markdown_hint(found.hint))
    else:
        st.progress(found.progress, text=f"{view.plain(other)}: replay {found.id} is {found.state}")


def _form(now: Snapshot, keeper_id: int, targets: dict[int, str]) -> None:
    other = st.selectbox("Version to compare with the one that is kept", targets, format_func=targets.__getitem__)
    file = st.file_uploader(
        f"Prompts, one per line, as text or as JSON with a `prompt`; {ENOUGH_PROMPTS} or more", type=["jsonl", "txt"]
    )
    if file is None or other is None:
        st.caption("Neither prompts nor answers are kept. `deltadex replay --from-run` takes the run's own table.")
        return
    try:
        prompts = read_prompts(file.getvalue().decode(errors="replace"))
    except DeltadexError as error:
        st.error(f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}")
        return
    with now.transaction() as tx:
        expected = estimate(tx, now.settings, keeper_id, prompts=len(prompts))
    few = f" Fewer than {ENOUGH_PROMPTS} show little." if len(prompts) < ENOUGH_PROMPTS else ""
    st.caption(f"{len(prompts):,} prompts.{few} {view.plain(str(expected))}")
    st.button("Start the replay", key="replay", on_click=_ask, args=(keeper_id, other, prompts))


def _ask(keeper_id: int, other_id: int, prompts: tuple[str, ...]) -> None:
    now = snapshot()
    try:
        with now.transaction() as tx:
            ask(tx, now.person, now.settings, keeper_id, other_id, prompts)
    except DeltadexError as error:
        st.error(f"**{view.plain(error.message)}.** {markdown_hint(error.hint)}")
