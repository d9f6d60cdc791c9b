"""The lineage of a version in Graphviz's language, and in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from deltadex.access import HIDDEN
from deltadex.escaping import printable
from deltadex.lineage.graph import Edge
from deltadex.types import VersionRow

_LONGEST_NAME = 32
#: Text and lines on a light and on a dark page, and the frame of the version whose lineage it is.
_INK = {False: "#3d4655", True: "#c9d1dc"}
_OWN = "#3f7dd1"


def lineage_dot(edges: Sequence[Edge], own: VersionRow, *, is_dark: bool = False) -> str:
    """Return the graph in the DOT language: declared relations are solid lines, measured ones are dashed.

    A line without an arrow has no known order.

    Parameters
    ----------
    own
        The version whose lineage it is; its box has a thick frame.
    """
    nodes = {_key(each): each for edge in edges for each in (edge.source, edge.target)}
    ink = _INK[is_dark]
    lines = [
        "rankdir=LR; bgcolor=transparent; nodesep=.2; ranksep=.9",
        f'node [shape=box style=rounded fontname="sans-serif" fontsize=11 color="{ink}" fontcolor="{ink}"]',
        f'edge [fontname="sans-serif" fontsize=10 color="{ink}" fontcolor="{ink}"]',
        *(_node(key, each, is_own=each == own) for key, each in nodes.items()),
        *(_edge(edge) for edge in edges),
    ]
    return "digraph {" + "\n".join(lines) + "}"


def lineage_words(edges: Sequence[Edge]) -> str:
    """Return the alternative text of the graph."""
    return "; ".join(f"{_name(edge.source)} → {_name(edge.target)}: {edge.in_words}" for edge in edges)


def _node(key: str, each: VersionRow | str, *, is_own: bool) -> str:
    name = _name(each)
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    look = f' penwidth=2.5 color="{_OWN}"' if is_own else " shape=plaintext" * isinstance(each, str)
    return f"{key} [label={_quoted(short)} tooltip={_quoted(name)}{look}]"


def _edge(edge: Edge) -> str:
    style = "solid" if edge.relation.is_declared else "dashed"
    direction = "" if edge.has_order else " dir=none"
    return f"{_key(edge.source)} -> {_key(edge.target)} [label={_quoted(edge.in_words)} style={style}{direction}]"


def _key(each: VersionRow | str) -> str:
    return "base" if isinstance(each, str) else f"v{each.id}"


def _name(each: VersionRow | str) -> str:
    if isinstance(each, str):
        return each
    return HIDDEN if each.registered.ref.is_hidden else each.label


def _quoted(text: str) -> str:
    """Return a DOT string. An unescaped backslash would begin a code that Graphviz replaces."""
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
