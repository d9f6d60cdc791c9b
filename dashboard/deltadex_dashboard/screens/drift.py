"""The drift page: drift of registered models from version to version, the largest step first."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.access import HIDDEN
from deltadex.drift.line import Step
from deltadex.drift.model_drift import ModelDrift
from deltadex.drift.queries import Line
from deltadex.reports.table import Table
from deltadex.setting_groups import ThresholdSettings
from deltadex.types import Words
from deltadex_dashboard.charts.drift import drift_chart, drift_words, probes_chart
from deltadex_dashboard.elements import text as view
from deltadex_dashboard.reads import pages as reads
from deltadex_dashboard.reads.snapshots import Snapshot, snapshot

#: Each chart takes 0.05 s in the browser, and as much on the server.
_MOST_CHARTS = 4
_MOST_WORDS = 6
#: Differences between two trainings that are shown.
_MOST_CAUSES = 3


def show(now: Snapshot) -> None:
    """Draw the page."""
    view.heading("Drift", "Distance between consecutive versions of each registered model.")
    if view.nothing_embedded(now):
        return
    lines = reads.lines(now)
    if not lines:
        view.empty(
            "No registered model has two versions that can be compared.",
            "Register a second version of a model in MLflow to see its drift here.",
        )
        return
    thresholds = now.settings.thresholds
    _numbers(lines)
    names = [line.name for line in lines if line.name != HIDDEN]
    left, _ = st.columns([2, 3])
    chosen = left.selectbox(
        "Registered model", sorted(names), index=None, key="model", bind="query-params", accept_new_options=True,
        placeholder=f"The {_MOST_CHARTS} with the largest steps" if len(names) > _MOST_CHARTS else "All models",
    )  # fmt: skip
    if chosen is not None and chosen not in names:
        st.warning(view.plain(f"{chosen} is not known, or has no two versions that can be compared."))
        chosen = None
    shown = [drifted for name in ([chosen] if chosen else names[:_MOST_CHARTS]) if (drifted := reads.drift(now, name))]
    for number in range(0, len(shown), 2):
        for column, drifted in zip(st.columns(2), shown[number : number + 2], strict=False):
            with column:
                _model(drifted, thresholds)
    st.caption(
        "Drift is flagged when the distance of a version from the last flagged version (or from the first) reaches the "
        "threshold and is larger than noise or another seed can explain. The grey area is the noise."
    )
    st.subheader("All models")
    view.table(_table(lines))


def _table(lines: Sequence[Line]) -> Table:
    rows = tuple((one.name, one.base_name, one.versions, round(one.largest_step, 4), one.changes) for one in lines)
    return Table("drift", "Drift", ("model", "base model", "versions", "largest step", "drifts"), rows)


def _numbers(lines: Sequence[Line]) -> None:
    first, second, third = st.columns(3)
    first.metric("Models with two or more versions", f"{len(lines):,}", border=True)
    second.metric("Drifts", f"{sum(one.changes for one in lines):,}", border=True)
    third.metric(
        "Breaks", f"{sum(one.broken for one in lines):,}", border=True,
        help="Versions whose base or recipe differs from the previous version's. They can't be compared.",
    )  # fmt: skip


def _model(drifted: ModelDrift, thresholds: ThresholdSettings) -> None:
    with st.container(border=True):
        name, largest = st.columns([3, 2], vertical_alignment="center")
        with name:
            view.model_link(drifted.name)
        badge = "red-badge[drift]" if drifted.changes else "green-badge[steady]"
        largest.markdown(f":{badge} largest step {drifted.largest_step:.3f}")
        chart = drift_chart(drifted, height=270)
        st.altair_chart(chart, key=f"drift-{drifted.versions[0].id}", alt=drift_words(drifted))
        for number, step in enumerate(drifted.steps):
            _remark(drifted, number, step, thresholds)
        if drifted.too_weak:
            labels = ", ".join(f"v{row.registered.ref.version}" for row in drifted.too_weak)
            st.caption(f"Too weak to place: {labels}")
        # A toggle: Streamlit renders the content of an expander even if it is closed.
        if drifted.changes and st.toggle("Probe by probe", key=f"probes-{drifted.name}"):
            st.altair_chart(probes_chart(drifted), key=f"each-probe-{drifted.name}", alt="Distance by step and probe")


def _words(changed: Words | None) -> None:
    for verb, words in (("Promotes", changed.promoted), ("Demotes", changed.demoted)) if changed else ():
        if words:
            st.caption(f"{verb} more than before: " + " · ".join(view.plain(word.text) for word in words[:_MOST_WORDS]))


def _remark(drifted: ModelDrift, number: int, step: Step, thresholds: ThresholdSettings) -> None:
    older, newer = drifted.versions[number : number + 2]
    numbers = f"v{older.registered.ref.version} → v{newer.registered.ref.version}"
    move = step.previous
    if step.broken:
        view.version_link(newer, label=f"{numbers}: {step.broken}, so no comparison")
    elif step.back_to is not None:
        back = drifted.versions[step.back_to].registered.ref.version
        view.version_link(newer, label=f"{numbers}: back to v{back}")
    elif step.change and step.reference is not None and move:
        since = drifted.versions[step.reference].registered.ref.version
        direction = drifted.directions.get(number)
        clusters = f", {direction.clusters}" if direction and direction.clusters else ""
        moved = f": {step.in_words}" if step.in_words else ""
        for one in direction.differences[:_MOST_CAUSES] if direction else ():
            st.caption(f"{numbers} differs in {view.plain(str(one))}")
        view.version_link(
            newer, label=f"{numbers}: {step.change} of {step.measure:.3f} since v{since}{clusters}{moved}"
        )
        _words(direction.words if direction else None)
    if move and move.changes_strength(thresholds.drift_norm_ratio):
        view.version_link(newer, label=f"{numbers}: strength × {move.strength_ratio:.2f}")


show(snapshot())
