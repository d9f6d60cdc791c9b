"""The domains that the finetunes of one base fall into, and who is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import streamlit as st

from deltadex.analysis.clusters import ALONE
from deltadex.domain import VersionRow
from deltadex.governance.report import Table
from deltadex_dashboard import reads, view

_ALONE = "alone"


def show(now: reads.Snapshot) -> None:
    """Draw the page."""
    view.heading("Domains", "Clusters of finetunes that change their base in the same way.")
    if view.nothing_embedded(now):
        return
    left, _ = st.columns([3, 4])
    with left:
        chart = reads.chart(now, view.recipe_id(now))
    if not chart.clusters:
        view.empty("There are no clusters.", chart.note)
        return
    st.caption(chart.note)
    names = view.cluster_names(chart)
    left, right = st.columns([2, 3], gap="large")
    with left:
        shown = _list(chart, names)
    with right:
        _domain(chart, shown, names)


def _list(chart: reads.Chart, names: Sequence[str]) -> str:
    sizes = Counter(chart.labels.tolist())
    rows = [
        (name, sizes[label], len({row.registered.tags.get("team") for row in chart.members(label)} - {None}))
        for label, name in enumerate(names)
    ]
    rows += [(_ALONE, sizes[ALONE], len({row.registered.tags.get("team") for row in chart.members(ALONE)} - {None}))]
    table = Table("domains", "Domains", ("domain", "versions", "teams"), tuple(row for row in rows if row[1]))
    chosen = st.selectbox("Domain", [str(row[0]) for row in table.rows], key="domain", bind="query-params")
    view.table(table)
    return chosen


def _domain(chart: reads.Chart, name: str, names: Sequence[str]) -> None:
    label = ALONE if name == _ALONE else names.index(name)
    members = chart.members(label)
    st.subheader(view.plain(name))
    if label == ALONE:
        st.caption("Similar enough to no other version.")
    else:
        st.caption(f"Named by: {chart.clusters[label].named_by}")
    strengths = chart.strengths[np.flatnonzero(chart.labels == label)]
    view.table(_members(members, strengths.tolist()))


def _members(members: Sequence[VersionRow], strengths: Sequence[float]) -> Table:
    rows = [
        (
            row.registered.ref.name,
            row.registered.ref.version,
            row.registered.tags.get("team"),
            view.registered_at(row),
            round(strength, 4),
        )
        for row, strength in zip(members, strengths, strict=True)
    ]
    return Table("members", "Members", ("model", "version", "team", "registered", "strength"), tuple(rows))


show(reads.snapshot())
