"""The command `report`: the governance report as a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain

console = Console(highlight=False)


def report(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="FILE.html or FILE.csv.", dir_okay=False, show_default=False)
    ],
    table: Annotated[str, typer.Option(help="The table to write as CSV.")] = "findings",
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the governance report: one HTML file for offline use and print, or one of its tables as CSV."""
    from deltadex.reports.governance import governance_report
    from deltadex.reports.table import as_csv, as_html

    if output.suffix not in (".html", ".csv"):
        raise typer.BadParameter("FILE must end in .html or .csv", param_hint="--output")
    with reading(data_dir, database_url) as (tx, viewer, settings):
        content = governance_report(tx, viewer, settings)
    if output.suffix == ".csv":
        chosen = next((one for one in content.tables if one.name == table), None)
        if chosen is None:
            raise typer.BadParameter(f"one of {', '.join(one.name for one in content.tables)}", param_hint="--table")
        written = as_csv(chosen.columns, chosen.rows).encode()
    else:
        written = as_html(content).encode()
    output.write_bytes(written)
    digest = hashlib.sha256(written).hexdigest()
    if json:
        rows = {one.name: len(one.rows) for one in content.tables}
        print_json({"output": str(output), "sha256": digest, "rows": rows})
        return
    console.print(f"{plain(output)}: {len(written):,} bytes, SHA-256 {digest}")
