"""How a registered model moves from version to version. Pure, as `charts`."""

from __future__ import annotations

from typing import Any

import altair as alt

from deltadex.analysis.drift import Step
from deltadex.drifting import ModelDrift
from deltadex_dashboard.charts import exact, heat_map, layered, of
from deltadex_dashboard.colors import ALERT, CALM, FAINT, QUIET

_PREVIOUS, _FIRST = "from the version before", "from the first"
_LINES, _DASHES = [CALM, QUIET, QUIET], [[1, 0], [2, 3], [6, 3]]


def drift_chart(drifted: ModelDrift, *, threshold: float, height: int = 260) -> alt.LayerChart:
    """Return how far each version is from the one before, from the first and from the alias, over what noise reaches.

    Where a version can't be compared with the one before the lines are broken, and a dotted line says why.
    """
    alias = f"from @{drifted.alias}"
    steps = [_facts(name, step) for name, step in zip(_names(drifted)[1:], drifted.steps, strict=True)]
    lines = {_PREVIOUS: "previous", _FIRST: "first"} | ({alias: "alias"} if drifted.alias else {})
    distances = [
        {"version": step["version"], "line": line, "distance": step[field]}
        for line, field in lines.items()
        for step in steps
    ]
    highest = max([threshold, *(step[field] or 0 for step in steps for field in (*lines.values(), "noise"))])
    x = alt.X(
        "version:O", scale=alt.Scale(domain=_names(drifted)), axis=alt.Axis(title=None, labelAngle=0, labelOverlap=True)
    )
    scale = alt.Scale(domain=[0, highest * 1.15], nice=False)
    y = alt.Y("distance:Q", title="cosine distance", axis=alt.Axis(format=".2f"), scale=scale)
    legend = alt.Legend(title=None, orient="bottom", columns=2, symbolSize=600)
    color = alt.Color("line:N", legend=legend, scale=alt.Scale(domain=list(lines), range=_LINES[: len(lines)]))
    dash = alt.StrokeDash("line:N", legend=legend, scale=alt.Scale(domain=list(lines), range=_DASHES[: len(lines)]))
    told, moved = of(steps).encode(x=x), of(distances).encode(x=x)
    broken = told.transform_filter("isValid(datum.broken)")
    limit = of([{"distance": threshold, "text": f"threshold {threshold:g}"}]).encode(y=y)
    return layered(
        told.mark_area(color=QUIET, opacity=0.22).encode(y=alt.Y("noise:Q", scale=scale)),
        moved.mark_line().encode(y=y, color=color, strokeDash=dash),
        told.mark_point(filled=True, opacity=1).encode(
            y=alt.Y("previous:Q", scale=scale),
            color=alt.condition("datum.change", alt.value(ALERT), alt.value(CALM)),
            shape=alt.condition("datum.change", alt.value("diamond"), alt.value("circle")),
            size=alt.condition("datum.change", alt.value(150), alt.value(60)),
        ),
        broken.mark_rule(color=ALERT, strokeDash=[2, 3]),
        broken.mark_text(align="left", dx=4, y=8, color=ALERT).encode(text="broken:N"),
        limit.mark_rule(color=ALERT, strokeDash=[6, 4]),
        limit.mark_text(align="left", dx=4, dy=-8, x=0, color=ALERT).encode(text="text:N"),
        # Wide enough for a pointer; nobody sees it.
        told.mark_rule(strokeWidth=28, opacity=0).encode(
            tooltip=[
                alt.Tooltip("version:N"),
                exact("previous", _PREVIOUS),
                exact("first", _FIRST),
                *([exact("alias", alias)] if drifted.alias else []),
                exact("noise"),
                alt.Tooltip("strength:N"),
            ]
        ),
        height=height,
    )


def drift_words(drifted: ModelDrift) -> str:
    """Return what the chart shows, for people who can't see it."""
    return (
        f"{drifted.name} over {len(drifted.versions)} versions: largest step {drifted.largest_step:.3f}, "
        f"{drifted.changes} drifts"
    )


def probes_chart(drifted: ModelDrift) -> alt.LayerChart:
    """Return the distance of each step as each probe alone sees it; steps without probes are left out."""
    cells: list[dict[str, object]] = [
        {"step": name, "probe": f"probe {number}", "distance": float(distance)}
        for name, step in zip(_names(drifted)[1:], drifted.steps, strict=True)
        if step.previous and step.previous.probe_distances is not None
        for number, distance in enumerate(step.previous.probe_distances, start=1)
    ]
    steps, probes = (list(dict.fromkeys(str(cell[field]) for cell in cells)) for field in ("step", "probe"))
    color = alt.Color("distance:Q", title=None, scale=alt.Scale(domainMin=0, range=[FAINT, ALERT]))
    cell = heat_map(cells, x=("step", steps), y=("probe", probes)).mark_rect()
    return layered(cell.encode(color=color, tooltip=["step:N", "probe:N", exact("distance")]), height=220)


def _names(drifted: ModelDrift) -> list[str]:
    return [f"v{row.registered.ref.version}" for row in drifted.versions]


def _facts(name: str, step: Step) -> dict[str, Any]:
    """Return what one step is drawn from; nothing where it can't be compared."""
    previous, ratio = step.previous, step.previous.strength_ratio if step.previous else None
    return {
        "version": name,
        "previous": previous.distance if previous else None,
        "first": step.first.distance if step.first else None,
        "alias": step.alias.distance if step.alias else None,
        "noise": previous.noise if previous else None,
        "change": bool(step.change),
        "broken": step.broken.value if step.broken else None,
        "strength": "unknown" if ratio is None else f"× {ratio:.2f}",
    }
