"""The commands `endpoint`: the log of texts that were sent to the endpoint of the settings."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.endpoint import queries as sent_texts

console = Console(highlight=False)
endpoint = typer.Typer(
    name="endpoint", help="Show what was sent to the endpoint of the settings.", no_args_is_help=True
)

_DIGITS_OF_DIGEST = 8


@endpoint.callback()
def commands() -> None:
    """Show what was sent to the endpoint of the settings."""


@endpoint.command()
def log(
    limit: Annotated[int, typer.Option("--limit", "-k", help="Maximum number of requests.", min=1)] = 50,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show who sent how much to which host, newest first. The texts themselves are not kept."""
    with reading(data_dir, database_url) as (tx, viewer, settings):
        found = sent_texts.listing(tx, viewer, settings.registry, limit=limit)
    if json:
        print_json(
            [
                {
                    "sent_at": one.sent_at.isoformat(), "sent_by": one.sent_by, "host": one.sending.host,
                    "model": one.sending.model, "purpose": one.sending.purpose, "sha256": one.sending.digest,
                    "bytes": one.sending.size_bytes,
                }
                for one in found
            ]
        )  # fmt: skip
        return
    sent, digest = (Column(each, no_wrap=True) for each in ("sent", "SHA-256"))
    others = (Column(each, overflow="fold") for each in ("by", "to", "model", "for"))
    table = Table(sent, *others, Column("bytes", justify="right"), digest, caption="--json shows whole digests.")
    for one in found:
        sending = one.sending
        texts = map(plain, (one.sent_by, sending.host, sending.model, sending.purpose))
        start = sending.digest[:_DIGITS_OF_DIGEST]
        table.add_row(f"{one.sent_at:%Y-%m-%d %H:%M}", *texts, f"{sending.size_bytes:,}", start)
    console.print(table if found else "[dim]Nothing was sent.[/]")
