"""Any two versions compared. Both are in the address, so that a comparison can be shared."""

from __future__ import annotations

import streamlit as st

from deltadex.types import VersionRow
from deltadex_dashboard.elements import comparison
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import models as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Compare", "Two versions: what differs, how similar they are, and what that means.")
    labels = reads.labels(now)
    if not labels:
        view.no_versions()
        return
    left, right = st.columns(2, gap="large")
    with left:
        one = _choose(now, "One version", labels, key="a")
    with right:
        other = _choose(now, "Other version", labels, key="b")
    if one is None or other is None:
        view.empty("Two versions are needed.", "Choose both above. A model's page links here, too.")
    elif one.id == other.id:
        view.empty("This is one version twice.", "Choose another one on either side.")
    elif found := reads.comparison(now, one.id, other.id):
        comparison.show(found, key="two")


def _choose(now: Snapshot, title: str, labels: list[str], *, key: str) -> VersionRow | None:
    """Show a select box of versions with a link to the chosen one; say if a label of the link is not known."""
    label = st.selectbox(
        title, labels, index=None, key=key, bind="query-params", accept_new_options=True, placeholder="NAME/VERSION"
    )
    if label is None:
        return None
    if label not in labels:
        st.error(view.plain(f"{label} is not known: it was deleted or renamed, or is not shown to you."))
        return None
    row = reads.labelled(now, label)
    view.version_link(row)
    return row


show(snapshot())
