"""The command `lineage`: what a version was made from, and what was made from it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.lineage.base import MeasuredBase
from deltadex.lineage.dot import lineage_dot
from deltadex.lineage.graph import Edge
from deltadex.lineage.graph import lineage as read_lineage
from deltadex.lineage.remarks import base_and_remarks
from deltadex.types import VersionRow
from deltadex.versions.labels import known_version

console = Console(highlight=False)


def lineage(
    label: VersionLabel,
    json: Json = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print the graph in Graphviz's language.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show where a version comes from: its base, parents, copies and relatives, declared and measured."""
    if json and dot:
        raise typer.BadParameter("choose one of --json and --dot")
    with reading(data_dir, database_url) as (tx, viewer, settings):
        row = known_version(tx, viewer, settings.registry, *parse_label(label))
        edges = read_lineage(tx, viewer, row.id)
        base, remarks = base_and_remarks(tx, viewer, row.id)
    if json:
        print_json({"relations": list(map(_as_json, edges)), "base": _base_json(base), "remarks": remarks})
    elif dot:
        print(lineage_dot(edges, row))
    else:
        _show(edges, remarks)


def _show(edges: tuple[Edge, ...], remarks: tuple[str, ...]) -> None:
    names = (Column(each, overflow="fold") for each in ("from", "to"))
    table = Table(*names, "relation", "known by", caption=None if edges else "no relation is known")
    for edge in edges:
        source = edge.source if isinstance(edge.source, str) else edge.source.label
        known_by = "declaration" if edge.relation.is_declared else "measurement"
        order = "" if edge.has_order else " (order unknown)"
        table.add_row(plain(source), plain(edge.target.label), f"{edge.in_words}{order}", known_by)
    console.print(table)
    for each in remarks:
        console.print(plain(each))


def _as_json(edge: Edge) -> dict[str, Any]:
    return {
        "from": version_json(edge.source) if isinstance(edge.source, VersionRow) else edge.source,
        "to": version_json(edge.target),
        "relation": edge.relation,
        "is_declared": edge.relation.is_declared,
        "has_order": edge.has_order,
        "similarity": edge.similarity,
        "p": edge.p,
        "weight": edge.weight,
    }


def _base_json(base: MeasuredBase | None) -> dict[str, Any] | None:
    """Return the measured base; the names of other bases that fit are those of models that not everybody may see."""
    if base is None:
        return None
    return {"verdict": base.verdict, "name": base.name or None, "p": base.p, "consistent": len(base.consistent)}
