"""Charts of the drift of a registered model. Pure functions."""

from __future__ import annotations

from typing import Any

import altair as alt

from deltadex.drift.line import Move, Step
from deltadex.drift.model_drift import ModelDrift
from deltadex.engine.probes import probe_labels
from deltadex_dashboard.charts.colors import ALERT, CALM, FAINT, QUIET
from deltadex_dashboard.charts.overview import chart_of, heat_map, layered, number_tooltip

_PREVIOUS, _FIRST = "from the version before", "from the first"
_LINES, _DASHES = [CALM, QUIET, QUIET], [[1, 0], [2, 3], [6, 3]]


def drift_chart(drifted: ModelDrift, *, threshold: float | None = None, height: int = 260) -> alt.LayerChart:
    """Return a chart of each version's distance from the previous, the first and the alias's version, over the noise.

    If a version can't be compared with the previous one, the lines are interrupted and a dotted line gives the reason.

    Parameters
    ----------
    threshold
        Cosine distance to mark; default: the present limit of the last move.
    """
    threshold = drifted.limit if threshold is None else threshold
    alias = f"from @{drifted.alias}"
    steps = [_facts(name, step) for name, step in zip(_names(drifted)[1:], drifted.steps, strict=True)]
    lines = {_PREVIOUS: "previous", _FIRST: "first"} | ({alias: "alias"} if drifted.alias else {})
    distances = [
        {"version": step["version"], "line": line, "distance": step[field]}
        for line, field in lines.items()
        for step in steps
    ]
    highest = max([threshold or 0, *(step[field] or 0 for step in steps for field in (*lines.values(), "noise"))])
    x = alt.X(
        "version:O", scale=alt.Scale(domain=_names(drifted)), axis=alt.Axis(title=None, labelAngle=0, labelOverlap=True)
    )
    scale = alt.Scale(domain=[0, highest * 1.15], nice=False)
    y = alt.Y("distance:Q", title="cosine distance", axis=alt.Axis(format=".2f"), scale=scale)
    legend = alt.Legend(title=None, orient="bottom", columns=2, symbolSize=600)
    color = alt.Color("line:N", legend=legend, scale=alt.Scale(domain=list(lines), range=_LINES[: len(lines)]))
    dash = alt.StrokeDash("line:N", legend=legend, scale=alt.Scale(domain=list(lines), range=_DASHES[: len(lines)]))
    by_step, by_line = chart_of(steps).encode(x=x), chart_of(distances).encode(x=x)
    broken = by_step.transform_filter("isValid(datum.broken)")
    limit = chart_of([{"distance": threshold, "text": f"threshold {threshold:g}"}] if threshold else []).encode(y=y)
    return layered(
        by_step.mark_area(color=QUIET, opacity=0.22).encode(y=alt.Y("noise:Q", scale=scale)),
        by_line.mark_line().encode(y=y, color=color, strokeDash=dash),
        by_step.mark_point(filled=True, opacity=1).encode(
            y=alt.Y("previous:Q", scale=scale),
            color=alt.condition("datum.change", alt.value(ALERT), alt.value(CALM)),
            shape=alt.condition("datum.change", alt.value("diamond"), alt.value("circle")),
            size=alt.condition("datum.change", alt.value(150), alt.value(60)),
        ),
        broken.mark_rule(color=ALERT, strokeDash=[2, 3]),
        broken.mark_text(align="left", dx=4, y=8, color=ALERT).encode(text="broken:N"),
        limit.mark_rule(color=ALERT, strokeDash=[6, 4]),
        limit.mark_text(align="left", dx=4, dy=-8, x=0, color=ALERT).encode(text="text:N"),
        # An invisible target for the tooltip, wide enough for a pointer.
        by_step.mark_rule(strokeWidth=28, opacity=0).encode(
            tooltip=[
                alt.Tooltip("version:N"),
                number_tooltip("previous", _PREVIOUS),
                number_tooltip("first", _FIRST),
                *([number_tooltip("alias", alias)] if drifted.alias else []),
                number_tooltip("noise"),
                alt.Tooltip("strength:N"),
            ]
        ),
        height=height,
    )


def drift_words(drifted: ModelDrift) -> str:
    """Return the alternative text of the drift chart."""
    return (
        f"{drifted.name} over {len(drifted.versions)} versions: largest step {drifted.largest_step:.3f}, "
        f"{drifted.changes} drifts"
    )


def probes_chart(drifted: ModelDrift) -> alt.LayerChart:
    """Return a heat map of the distance by step and probe; steps without probe distances are left out."""
    cells: list[dict[str, object]] = [
        {"step": name, "probe": probe, "distance": float(distance)}
        for name, step in zip(_names(drifted)[1:], drifted.steps, strict=True)
        if step.previous and step.previous.probe_distances is not None
        for probe, distance in zip(_probes(drifted, step.previous), step.previous.probe_distances, strict=True)
    ]
    steps, probes = (list(dict.fromkeys(str(cell[field]) for cell in cells)) for field in ("step", "probe"))
    color = alt.Color("distance:Q", title=None, scale=alt.Scale(domainMin=0, range=[FAINT, ALERT]))
    cell = heat_map(cells, x=("step", steps), y=("probe", probes)).mark_rect()
    return layered(cell.encode(color=color, tooltip=["step:N", "probe:N", number_tooltip("distance")]), height=220)


def _probes(drifted: ModelDrift, move: Move) -> tuple[str, ...]:
    """Return the probes' texts, as far as they differ."""
    return probe_labels(drifted.recipes[move.recipe_id].probe_set, len(move.probe_distances or ()))


def _names(drifted: ModelDrift) -> list[str]:
    return [f"v{row.registered.ref.version}" for row in drifted.versions]


def _facts(name: str, step: Step) -> dict[str, Any]:
    """Return a step's values for the chart, with None for distances that can't be measured."""
    previous, ratio = step.previous, step.previous.strength_ratio if step.previous else None
    return {
        "version": name,
        "previous": previous.distance if previous else None,
        "first": step.first.distance if step.first else None,
        "alias": step.alias.distance if step.alias else None,
        "noise": previous.noise if previous else None,
        "change": step.is_drift,
        "broken": step.broken.value if step.broken else None,
        "strength": "unknown" if ratio is None else f"× {ratio:.2f}",
    }
