"""How registered models move from version to version, those with the largest step first."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.analysis.drift import Step
from deltadex.domain import Words
from deltadex.drifting import ModelDrift
from deltadex.governance.access import HIDDEN
from deltadex.governance.report import Table
from deltadex.settings import ThresholdSettings
from deltadex.store.model_history import Line
from deltadex_dashboard import reads, view
from deltadex_dashboard.drift_charts import drift_chart, drift_words, probes_chart
from deltadex_dashboard.snapshots import Snapshot, snapshot

#: Each chart costs the browser a twentieth of a second, and the server as much.
_MOST_CHARTS = 4
_MOST_WORDS = 6


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Drift", "How far each registered model moved from one version to the next.")
    if view.nothing_embedded(now):
        return
    lines = reads.lines(now)
    if not lines:
        view.empty(
            "No registered model has two versions that can be compared.",
            "Register a second version of a model in MLflow: how far it moved shows up here.",
        )
        return
    thresholds = now.settings.thresholds
    _numbers(lines)
    names = [line.name for line in lines if line.name != HIDDEN]
    left, _ = st.columns([2, 3])
    chosen = left.selectbox(
        "Registered model", sorted(names), index=None, key="model", bind="query-params",
        placeholder=f"The {_MOST_CHARTS} with the largest steps" if len(names) > _MOST_CHARTS else "All of them",
    )  # fmt: skip
    shown = [drifted for name in ([chosen] if chosen else names[:_MOST_CHARTS]) if (drifted := reads.drift(now, name))]
    for number in range(0, len(shown), 2):
        for column, drifted in zip(st.columns(2), shown[number : number + 2], strict=False):
            with column:
                _model(drifted, thresholds)
    st.caption(
        "Drift is flagged where a version is that far from the last one that was flagged, or from the first, and "
        "farther than noise or another seed alone may move it. The grey area is that noise."
    )
    st.subheader("All models")
    view.table(_table(lines))


def _table(lines: Sequence[Line]) -> Table:
    rows = tuple((one.name, one.base_name, one.versions, round(one.largest_step, 4), one.changes) for one in lines)
    return Table("drift", "Drift", ("model", "base model", "versions", "largest step", "drifts"), rows)


def _numbers(lines: Sequence[Line]) -> None:
    first, second, third, fourth = st.columns(4)
    first.metric("Models with two or more versions", f"{len(lines):,}", border=True)
    second.metric("Steps compared", f"{sum(one.compared for one in lines):,}", border=True)
    third.metric("Drifts", f"{sum(one.changes for one in lines):,}", border=True)
    fourth.metric(
        "Breaks", f"{sum(one.broken for one in lines):,}", border=True,
        help="Versions of another base or recipe than the one before: that is no drift, and nothing to compare.",
    )  # fmt: skip


def _model(drifted: ModelDrift, thresholds: ThresholdSettings) -> None:
    with st.container(border=True):
        name, largest = st.columns([3, 2], vertical_alignment="center")
        with name:
            view.model_link(drifted.name)
        badge = "red-badge[drift]" if drifted.changes else "green-badge[steady]"
        largest.markdown(f":{badge} largest step {drifted.largest_step:.3f}")
        chart = drift_chart(drifted, threshold=thresholds.drift_distance, height=270)
        st.altair_chart(chart, key=f"drift-{drifted.versions[0].id}", alt=drift_words(drifted))
        for place, step in enumerate(drifted.steps):
            _remark(drifted, place, step, thresholds)
        if drifted.too_weak:
            labels = ", ".join(f"v{row.registered.ref.version}" for row in drifted.too_weak)
            st.caption(f"Too weak to place: {labels}")
        # A toggle, not an expander: that would draw it behind closed doors.
        if drifted.changes and st.toggle("Probe by probe", key=f"probes-{drifted.name}"):
            st.altair_chart(probes_chart(drifted), key=f"each-probe-{drifted.name}", alt="Distance by step and probe")


def _words(said: Words | None) -> None:
    for way, words in (("Promotes", said.promoted), ("Demotes", said.demoted)) if said else ():
        if words:
            st.caption(f"{way} more than before: " + " · ".join(view.plain(word.text) for word in words[:_MOST_WORDS]))


def _remark(drifted: ModelDrift, place: int, step: Step, thresholds: ThresholdSettings) -> None:
    older, newer = drifted.versions[place : place + 2]
    numbers = f"v{older.registered.ref.version} → v{newer.registered.ref.version}"
    move = step.previous
    if step.broken:
        view.version_link(newer, label=f"{numbers}: {step.broken}, so no comparison")
    elif step.change and step.reference is not None and move:
        since = drifted.versions[step.reference].registered.ref.version
        towards = drifted.towards.get(place)
        moved = f", {towards.clusters}" if towards and towards.clusters else ""
        view.version_link(newer, label=f"{numbers}: {step.change} of {step.measure:.3f} since v{since}{moved}")
        _words(towards.words if towards else None)
    if move and move.changes_strength(thresholds.drift_norm_ratio):
        view.version_link(newer, label=f"{numbers}: strength × {move.strength_ratio:.2f}")


show(snapshot())
