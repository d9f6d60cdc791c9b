"""How registered models move from version to version, those with the largest step first."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deltadex.answers import ModelDrift
from deltadex_dashboard import figures, reads, view

_MOST_MODELS = 30


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
    for number in range(0, len(drifts[:_MOST_MODELS]), 2):
        for column, drifted in zip(st.columns(2), drifts[number : number + 2], strict=False):
            with column:
                _model(drifted, threshold)
    if len(drifts) > _MOST_MODELS:
        st.caption(f"And {len(drifts) - _MOST_MODELS} more with smaller steps.")


def _numbers(drifts: Sequence[ModelDrift], threshold: float) -> None:
    steps = [step for drifted in drifts for step in drifted.steps]
    first, second, third = st.columns(3)
    first.metric("Models with two or more versions", len({drifted.name for drifted in drifts}), border=True)
    second.metric("Steps compared", len(steps), border=True)
    third.metric(f"Steps of {threshold:g} or more", sum(step.distance >= threshold for step in steps), border=True)


def _model(drifted: ModelDrift, threshold: float) -> None:
    with st.container(border=True):
        name, largest = st.columns([3, 2], vertical_alignment="center")
        with name:
            view.model_link(drifted.name)
        badge = "red-badge[drift]" if drifted.largest_step >= threshold else "green-badge[steady]"
        largest.markdown(f":{badge} largest step {drifted.largest_step:.3f}")
        figure = figures.drift_figure(drifted, threshold=threshold, height=230)
        key = f"drift-{drifted.recipe.id}-{drifted.name}"
        st.plotly_chart(figure, key=key, config={"displayModeBar": False})
        for older, newer, step in zip(drifted.versions, drifted.versions[1:], drifted.steps, strict=False):
            if step.distance >= threshold:
                numbers = f"v{older.registered.ref.version} → v{newer.registered.ref.version}"
                view.version_link(newer, label=f"{numbers}: distance {step.distance:.3f}")


show(reads.snapshot())
