"""The pictures of a pack as SVG: neighbours, drift and lineage, as the dashboard shows them."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.evidence.facts import EvidenceFacts
from deltadex.evidence.lineage import name_of
from deltadex.evidence.source import PackSource
from deltadex.evidence.templates import templates
from deltadex.lineage.graph import Edge
from deltadex.types import VersionRow

WIDTH = 760
_ROW = 26
_TOP = 54
_LONGEST = 34
#: Left and right end of the bars.
_BARS = (280, 690)
_PLOT_HEIGHT, _PLOT = 220, (70, 730)


@dataclass(frozen=True)
class NeighborBar:
    """One neighbour: its name, its similarity in words, and the bar's vertical place and width, in pixels."""

    name: str
    value: str
    y: int
    width: float


@dataclass(frozen=True)
class DriftDot:
    """One step of a model: the version that it leads to, its distance in words, and its place in pixels."""

    name: str
    value: str
    x: float
    y: float
    is_drift: bool


@dataclass(frozen=True)
class LineageLine:
    """One relation: from and to, in words, its vertical place in pixels, and whether it is declared and ordered."""

    source: str
    target: str
    words: str
    y: int
    is_declared: bool
    has_order: bool


def neighbors(source: PackSource) -> str:
    """Return the bars of cosine similarity to the nearest versions; empty if there are none."""
    facts = source.facts
    found = facts.neighbors.neighbors
    if not found:
        return ""
    left, right = _BARS
    bars = [
        NeighborBar(
            _short(facts.names.name(one.version)),
            f"{one.similarity:.4f}",
            _TOP + place * _ROW,
            max(one.similarity, 0.0) * (right - left),
        )
        for place, one in enumerate(found)
    ]
    return _drawn("neighbors", facts, height=_TOP + len(bars) * _ROW + 24, bars=bars, left=left)


def drift(source: PackSource) -> str:
    """Return the cosine distance of each version from the one before; empty if no two can be compared."""
    drifted = source.facts.drift
    if drifted is None:
        return ""
    moves = [
        (drifted.versions[place + 1], step, step.previous)
        for place, step in enumerate(drifted.steps)
        if step.previous is not None
    ]
    if not moves:
        return ""
    left, right = _PLOT
    top = max(*(move.distance for _, _, move in moves), *(move.limit for _, _, move in moves), 1e-6) * 1.15
    gap = (right - left) / (len(moves) + 1)

    def height_of(distance: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - distance / top)

    dots = [
        DriftDot(
            str(row.registered.ref.version),
            f"{move.distance:.4f}",
            left + gap * (place + 1),
            height_of(move.distance),
            step.is_drift,
        )
        for place, (row, step, move) in enumerate(moves)
    ]
    last = moves[-1][2]
    return _drawn(
        "drift",
        source.facts,
        height=_TOP + _PLOT_HEIGHT + 60,
        dots=dots,
        left=left,
        right=right,
        bottom=_TOP + _PLOT_HEIGHT,
        limit_y=height_of(last.limit),
        limit=f"{last.limit:.4f}",
        noise_y=height_of(min(last.noise, top)),
    )


def lineage(source: PackSource) -> str:
    """Return one row for each relation, declared ones solid and measured ones dashed; empty if there is none."""
    facts = source.facts
    lines = [_line(facts, edge, _TOP + place * _ROW * 2) for place, edge in enumerate(facts.edges)]
    return _drawn("lineage", facts, height=_TOP + len(lines) * _ROW * 2 + 24, lines=lines) if lines else ""


def _line(facts: EvidenceFacts, edge: Edge, y: int) -> LineageLine:
    source, target = (_short(name_of(facts, each)) for each in (edge.source, edge.target))
    return LineageLine(source, target, edge.in_words, y, edge.relation.is_declared, edge.has_order)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _drawn(name: str, facts: EvidenceFacts, *, height: int, **values: object) -> str:
    template = templates(is_markup=True).get_template(f"{name}.svg.jinja")
    made = f"{facts.made_at:%Y-%m-%d %H:%M} UTC"
    return template.render(title=_title(facts.version), made=made, width=WIDTH, height=height, **values)


def _title(row: VersionRow) -> str:
    return row.label
