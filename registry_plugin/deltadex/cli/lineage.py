"""The command `lineage`: what a version was made from, and what was made from it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.lineage.graph import Edge
from deltadex.lineage.graph import lineage as read_lineage
from deltadex.types import VersionRow
from deltadex.versions.labels import known_version

console = Console(highlight=False)


def lineage(
    label: VersionLabel, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Show the base, copies, neighbouring versions and duplicates of a version: declared and measured relations."""
    with reading(data_dir, database_url) as (tx, viewer, settings):
        row = known_version(tx, viewer, settings.registry, *parse_label(label))
        edges = read_lineage(tx, viewer, row.id)
    if json:
        print_json([_as_json(edge) for edge in edges])
        return
    names = (Column(each, overflow="fold") for each in ("from", "to"))
    table = Table(*names, "relation", "known by", caption=None if edges else "no relation is known")
    for edge in edges:
        source = edge.source if isinstance(edge.source, str) else edge.source.label
        known_by = "declaration" if edge.relation.is_declared else "measurement"
        table.add_row(plain(source), plain(edge.target.label), edge.in_words, known_by)
    console.print(table)


def _as_json(edge: Edge) -> dict[str, Any]:
    return {
        "from": version_json(edge.source) if isinstance(edge.source, VersionRow) else edge.source,
        "to": version_json(edge.target),
        "relation": edge.relation,
        "is_declared": edge.relation.is_declared,
        "similarity": edge.similarity,
    }
