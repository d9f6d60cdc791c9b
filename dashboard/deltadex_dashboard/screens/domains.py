"""The domains that the finetunes of one base fall into, and who is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import streamlit as st

from deltadex import clustering
from deltadex.analysis.clusters import ALONE
from deltadex.domain import VersionRow
from deltadex.errors import DeltadexError
from deltadex.governance.access import HIDDEN, Right
from deltadex.governance.report import Table
from deltadex.store.clusters import ClusterRow
from deltadex_dashboard import reads, view
from deltadex_dashboard.snapshots import Snapshot, snapshot
from deltadex_dashboard.tree_chart import tree_chart

_ALONE = "alone"
_MOST_LEAVES = 60
_OUTCOME = "renamed"


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Domains", "Clusters of finetunes that change their base in the same way.")
    if view.nothing_embedded(now):
        return
    left, _ = st.columns([3, 4])
    with left:
        chart = reads.chart(now, view.recipe_id(now))
    if not chart.clusters:
        view.empty("There are no clusters.", chart.note)
        _tree(now, chart)
        return
    st.caption(chart.note)
    names = view.cluster_names(chart)
    left, right = st.columns([2, 3], gap="large")
    with left:
        shown = _list(chart, names)
    with right:
        _domain(now, chart, shown, names)
    _tree(now, chart)


def _tree(now: Snapshot, chart: reads.Chart) -> None:
    """Of few models, which ones join first says more than where clusters end."""
    if 2 < len(chart.rows) <= _MOST_LEAVES:
        st.subheader("How they join")
        tree, labels = reads.tree(now, chart.recipe.id)
        joins = tree_chart(tree, labels, cut=chart.run.cut if chart.run else None)
        st.altair_chart(joins, key="tree", alt="Tree of model versions")


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


def _domain(now: Snapshot, chart: reads.Chart, name: str, names: Sequence[str]) -> None:
    label = ALONE if name == _ALONE else names.index(name)
    members = chart.members(label)
    st.subheader(view.plain(name))
    if label == ALONE:
        st.caption("Similar enough to no other version.")
    else:
        _name(now, chart.clusters[label])
    strengths = chart.strengths[np.flatnonzero(chart.labels == label)]
    view.table(_members(members, strengths.tolist()))


def _name(now: Snapshot, cluster: ClusterRow) -> None:
    when = f", {view.utc(cluster.given_at)}" if cluster.given_name and cluster.given_at else ""
    st.caption(f"Named by: {view.plain(cluster.named_by)}{when}")
    say, text = st.session_state.pop(_OUTCOME, (None, ""))
    if say is not None:
        say(text)
    if not now.person.may(Right.DECIDE) or cluster.name == HIDDEN:
        return
    with st.expander("Rename"), st.form("rename", border=False):
        st.text_input("Name", cluster.given_name or "", key=f"name-{cluster.id}", placeholder=cluster.label)
        st.form_submit_button("Rename", on_click=_rename, args=(cluster,))
        st.caption("Later runs keep it. Blank gives the found one back.")


def _rename(cluster: ClusterRow) -> None:
    name = st.session_state[f"name-{cluster.id}"].strip()
    try:
        now = snapshot()
        with now.transaction() as tx:
            clustering.rename(tx, now.person, now.settings.registry, cluster.id, name)
    except DeltadexError as error:
        st.session_state[_OUTCOME] = (st.error, f"{view.plain(error.message)}.")
        return
    st.session_state[_OUTCOME] = (st.success, f"It is {view.plain(name or cluster.label)} now.")
    # The chosen domain is chosen by its name.
    st.session_state["domain"] = name or cluster.label


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


show(snapshot())
