"""The domains page: clusters of the finetunes of one base, and their members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import streamlit as st

from deltadex.access import HIDDEN, Right
from deltadex.clusters import runs as cluster_runs
from deltadex.clusters.partition import ALONE
from deltadex.clusters.queries import ClusterRow
from deltadex.errors import DeltadexError
from deltadex.escaping import markdown_hint
from deltadex.map.chart import Chart
from deltadex.reports.table import Table
from deltadex.types import DOMAIN_TAG, VersionRow
from deltadex_dashboard.charts.crosstab import MOST, crosstab_chart
from deltadex_dashboard.charts.dendrogram import matrix_chart, tree_chart
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import map as reads_of_map
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

_ALONE = "alone"
_UNDECLARED = "none declared"
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
        view.empty("There are no clusters.", markdown_hint(chart.note))
        _tree(now, chart)
        _repeated(now, chart)
        return
    st.caption(markdown_hint(chart.note))
    names = view.cluster_names(chart)
    left, right = st.columns([2, 3], gap="large")
    with left:
        shown = _list(chart, names)
    with right:
        _domain(now, chart, shown, names)
    _declared_and_measured(chart, names)
    _tree(now, chart)
    _repeated(now, chart)


def _declared_and_measured(chart: Chart, names: Sequence[str]) -> None:
    if not any(chart.domains):
        return
    st.subheader("Declared domain and measured cluster")
    limit = f" The {MOST} largest of each." if max(len(set(chart.domains)), len(names)) > MOST else ""
    st.caption(
        f"Number of versions. The rows are the tag {DOMAIN_TAG}, the columns are clusters by behaviour.{limit} A row "
        "in several columns is a domain whose models behave differently; a column with several rows, the opposite."
    )
    declared = [domain or _UNDECLARED for domain in chart.domains]
    measured = [names[label] if label != ALONE else _ALONE for label in chart.labels.tolist()]
    st.altair_chart(crosstab_chart(declared, measured), key="crosstab", alt="Declared domains by measured cluster")


def _tree(now: Snapshot, chart: Chart) -> None:
    """Show the dendrogram and similarities; for a small number of models they are more informative than clusters."""
    newest = sorted(chart.rows, key=lambda row: row.registered.ref.age, reverse=True)[:_MOST_LEAVES]
    if len(newest) < 3:
        return
    tree, labels, similarity = reads_of_map.tree(now, chart.recipe.id, tuple(sorted(row.id for row in newest)))
    st.subheader("Dendrogram")
    cut = chart.run.cut if chart.run else None
    limit = f"Only the {_MOST_LEAVES} newest of {len(chart.rows):,} versions: more can't be read. "
    line = "" if cut is None else f"Clusters are cut at the dashed line ({cut:g})."
    st.caption(f"{limit if len(newest) < len(chart.rows) else ''}{line}")
    joins = tree_chart(tree, labels, cut=cut)
    st.altair_chart(joins, key="tree", alt="Tree of model versions")
    st.subheader("Similarity of each two versions")
    st.caption("The same versions, in the order of the dendrogram. Squares along the diagonal are similar versions.")
    st.altair_chart(matrix_chart(tree, labels, similarity), key="matrix", alt="Similarity matrix of model versions")


def _repeated(now: Snapshot, chart: Chart) -> None:
    """Show the differences that repeat across models or domains."""
    measured = reads.geometry(now, chart.recipe.id)
    if measured is None or not measured.geometry.differences:
        return
    st.subheader("Repeated differences")
    st.caption(
        "Steps between versions, and pairs of tag values, that have the same direction in every model or domain: the "
        f"change did the same everywhere, whatever the domain. Measurement {measured.basis}."
    )
    for answer in measured.geometry.differences:
        st.markdown(f"- {view.plain(answer.meaning)}")


def _list(chart: Chart, names: Sequence[str]) -> str:
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


def _domain(now: Snapshot, chart: Chart, name: str, names: Sequence[str]) -> None:
    label = ALONE if name == _ALONE else names.index(name)
    members = chart.members(label)
    st.subheader(view.plain(name))
    if label == ALONE:
        st.caption("Versions that are not similar enough to any other version.")
    else:
        _name(now, chart.clusters[label])
    strengths = chart.strengths[np.flatnonzero(chart.labels == label)]
    view.table(_members(members, strengths.tolist()))


def _name(now: Snapshot, cluster: ClusterRow) -> None:
    when = f", {view.utc(cluster.given_at)}" if cluster.given_name and cluster.given_at else ""
    st.caption(f"Named by: {view.plain(cluster.named_by)}{when}")
    show_message, text = st.session_state.pop(_OUTCOME, (None, ""))
    if show_message is not None:
        show_message(text)
    if not now.person.may(Right.DECIDE) or cluster.name == HIDDEN:
        return
    with st.expander("Rename"), st.form("rename", border=False):
        st.text_input("Name", cluster.given_name or "", key=f"name-{cluster.id}", placeholder=cluster.label)
        st.form_submit_button("Rename", on_click=_rename, args=(cluster,))
        st.caption("Later runs keep this name. Leave it blank to restore the automatic name.")


def _rename(cluster: ClusterRow) -> None:
    name = st.session_state[f"name-{cluster.id}"].strip()
    try:
        now = snapshot()
        with now.transaction() as tx:
            cluster_runs.rename(tx, now.person, now.settings.registry, cluster.id, name)
    except DeltadexError as error:
        st.session_state[_OUTCOME] = (st.error, f"{view.plain(error.message)}.")
        return
    st.session_state[_OUTCOME] = (st.success, f"Renamed to {view.plain(name or cluster.label)}.")
    # The selection refers to the domain by its name.
    st.session_state["domain"] = name or cluster.label


def _members(members: Sequence[VersionRow], strengths: Sequence[float]) -> Table:
    rows = [
        (
            row.registered.ref.name,
            row.registered.ref.version,
            row.registered.tags.get("team"),
            row.registered_at,
            round(strength, 4),
        )
        for row, strength in zip(members, strengths, strict=True)
    ]
    return Table("members", "Members", ("model", "version", "team", "registered", "strength"), tuple(rows))


show(snapshot())
