"""How registered models move from version to version, those with the largest step first."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.answers import ModelDrift
from deltadex.governance.report import Table
from deltadex_dashboard import figures, reads, view

#: Each chart costs the browser a tenth of a second.
_MOST_CHARTS = 6


def show(now: reads.Snapshot) -> None:
    """Draw the page."""
    view.heading("Drift", "How far each registered model moved from one version to the next.")
    if view.nothing_embedded(now):
        return
    drifts = reads.drifts(now)
    if not drifts:
        view.empty(
            "No registered model has two versions that can be compared.",
            "Register a second version of a model in MLflow: how far it moved shows up here.",
        )
        return
    threshold = now.settings.thresholds.drift_distance
    _numbers(drifts, threshold)
    names = sorted({drifted.name for drifted in drifts})
    left, _ = st.columns([2, 3])
    chosen = left.selectbox(
        "Registered model", names, index=None, key="model", bind="query-params",
        placeholder=f"The {min(_MOST_CHARTS, len(drifts))} with the largest steps",
    )  # fmt: skip
    shown = [one for one in drifts if chosen in (None, one.name)][:_MOST_CHARTS]
    for number in range(0, len(shown), 2):
        for column, drifted in zip(st.columns(2), shown[number : number + 2], strict=False):
            with column:
                _model(drifted, threshold)
    st.subheader("All models")
    view.table(_table(drifts, threshold))


def _numbers(drifts: Sequence[ModelDrift], threshold: float) -> None:
    steps = [step for drifted in drifts for step in drifted.steps]
    first, second, third = st.columns(3)
    first.metric("Models with two or more versions", f"{len({drifted.name for drifted in drifts}):,}", border=True)
    second.metric("Steps compared", f"{len(steps):,}", border=True)
    third.metric(f"Steps of {threshold:g} or more", f"{sum(s.distance >= threshold for s in steps):,}", border=True)


def _model(drifted: ModelDrift, threshold: float) -> None:
    with st.container(border=True):
        name, largest = st.columns([3, 2], vertical_alignment="center")
        with name:
            view.model_link(drifted.name)
        badge = "red-badge[drift]" if drifted.largest_step >= threshold else "green-badge[steady]"
        largest.markdown(f":{badge} largest step {drifted.largest_step:.3f}")
        figure = figures.drift_figure(drifted, threshold=threshold, height=230)
        key = f"drift-{drifted.recipe.id}-{drifted.versions[0].id}"
        st.plotly_chart(figure, key=key, config={"displayModeBar": False})
        for older, newer, step in zip(drifted.versions, drifted.versions[1:], drifted.steps, strict=False):
            if step.distance >= threshold:
                numbers = f"v{older.registered.ref.version} → v{newer.registered.ref.version}"
                view.version_link(newer, label=f"{numbers}: distance {step.distance:.3f}")


def _table(drifts: Sequence[ModelDrift], threshold: float) -> Table:
    rows = [
        (
            one.name,
            one.recipe.base_name,
            len(one.versions),
            round(one.largest_step, 4),
            sum(step.distance >= threshold for step in one.steps),
        )
        for one in drifts
    ]
    columns = ("model", "base model", "versions", "largest step", f"steps of {threshold:g} or more")
    return Table("drift", "Drift", columns, tuple(rows))


show(reads.snapshot())
