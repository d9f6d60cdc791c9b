"""Who decided what, when and on which numbers: the log that is only added to."""

from __future__ import annotations

import streamlit as st

from deltadex_dashboard import finding, reads, view
from deltadex_dashboard.snapshots import Snapshot, snapshot

_MOST = 1_000
_ANYBODY = "anybody"


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Activity", "Every decision, who made it and on which numbers. Entries are only added, never changed.")
    entries = reads.log(now, _MOST)
    if not entries:
        view.empty("Nothing was decided yet.", "What people do on the page Reviews is listed here for good.")
        return
    left, _ = st.columns([2, 3])
    people = sorted({entry.reviewer for entry in entries})
    who = left.selectbox("Who", [_ANYBODY, *people], key="who", bind="query-params")
    chain = reads.chain(now)
    if chain.broken is None:
        length = "1 entry" if chain.entries == 1 else f"{chain.entries:,} entries"
        st.success(f"The chain of hashes over {length} is whole. Its head is `{chain.head[:32]}`.")
    else:
        st.error(f"**Entry {chain.broken} is not what it was.** `deltadex review verify` checks the log.")
    view.table(finding.log_table(entry for entry in entries if who in (_ANYBODY, entry.reviewer)))
    if len(entries) == _MOST:
        st.caption(f"The latest {_MOST:,}: `deltadex review log` has them all.")


show(snapshot())
