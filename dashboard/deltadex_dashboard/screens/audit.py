"""The audit page: the append-only log of decisions, with reviewer, time and numbers."""

from __future__ import annotations

import streamlit as st

from deltadex_dashboard.elements import finding
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_MOST = 1_000
_EVERYONE = "everyone"


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Audit", "Every decision, with its reviewer and numbers. Entries are only added, never changed.")
    st.download_button(
        "Save the governance report", lambda: reads.report(now), f"deltadex-{now.settings.registry}.html", "text/html",
        on_click="ignore", help="Coverage, findings, decisions, thresholds and hashes in one file, to read offline.",
    )  # fmt: skip
    entries = reads.log(now, _MOST)
    if not entries:
        view.empty("There are no decisions yet.", "Decisions in the inbox are listed here permanently.")
        return
    left, _ = st.columns([2, 3])
    people = sorted({entry.reviewer for entry in entries})
    who = left.selectbox("Reviewer", [_EVERYONE, *people], key="who", bind="query-params")
    chain = reads.chain(now)
    if chain.broken is None:
        length = "1 entry" if chain.entries == 1 else f"{chain.entries:,} entries"
        st.success(f"The hash chain of {length} is intact. Its head is `{chain.head}`.")
    else:
        st.error(f"**{view.plain(chain.problem)}.** `deltadex review verify` checks the log.")
    _witnesses(now)
    view.table(finding.log_table(entry for entry in entries if who in (_EVERYONE, entry.reviewer)))
    if len(entries) == _MOST:
        st.caption(f"The latest {_MOST:,} entries; `deltadex review log` lists all of them.")


def _witnesses(now: Snapshot) -> None:
    """Say whether the log still contains what was published of it, as the watcher last found."""
    witnesses = reads.witnesses(now)
    for one in witnesses:
        if one.contradiction:
            st.error(f"**{view.plain(one.name)}**: {view.plain(one.contradiction)}")
    holding = [one for one in witnesses if one.published_at]
    if not holding:
        st.caption(
            "No witness holds a head of this log, so that a log that was cut off or wholly rewritten can't be told: "
            "`DELTADEX_WITNESSES` names some."
        )
        return
    latest = max(holding, key=lambda one: one.entries or 0)
    held = "1 witness holds" if len(holding) == 1 else f"{len(holding)} witnesses hold"
    st.caption(
        f"{held} heads of this log, up to entry {latest.entries:,} ({view.ago(latest.published_at)}). "
        "`deltadex review verify` asks them."
    )


show(snapshot())
