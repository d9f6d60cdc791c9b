"""Two versions of a duplicate group side by side."""

from __future__ import annotations

import streamlit as st

from deltadex.duplicates.group import Group
from deltadex_dashboard.elements import comparison
from deltadex_dashboard.reads import models as reads
from deltadex_dashboard.reads.snapshots import Snapshot


def show(now: Snapshot, recipe_id: int, group: Group) -> None:
    """Show two chosen members of a group side by side; only members that the person may see can be chosen."""
    visible = {row.label: row for row in group.versions if not row.registered.ref.is_hidden}
    key = f"beside-{recipe_id}-{group.kind}-{group.versions[0].id}"
    if len(visible) < 2 or not st.toggle("Side by side", key=key):
        return
    left, right = st.columns(2)
    keeper = group.proposal.keeper
    first = list(visible).index(keeper.label) if keeper and keeper.label in visible else 0
    one = visible[left.selectbox("One version", list(visible), first, key=f"{key}-one")]
    others = [label for label in visible if label != one.label]
    other = visible[right.selectbox("Other version", others, key=f"{key}-other")]
    if found := reads.comparison(now, one.id, other.id):
        comparison.show(found, key=key)
