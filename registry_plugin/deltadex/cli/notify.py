"""`deltadex notify`: whether the channels work, and what went through them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltadex.channels import send
from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.cli.reading import print_json, reading
from deltadex.errors import ChannelError, SettingsError
from deltadex.governance.access import Right
from deltadex.governance.notices import Message, check_rules
from deltadex.people import at_terminal
from deltadex.store import deliveries

console = Console(highlight=False)

notify = typer.Typer(
    name="notify", help="Messages about findings: try the channels, see the log.", no_args_is_help=True
)

_TEST = Message("Deltadex: a test", "This channel works. Nothing needs you.")


@notify.command("test")
def try_(
    channel: Annotated[str | None, typer.Argument(help="A channel of the settings.", show_default="all")] = None,
    data_dir: DataDir = None,
) -> None:
    """Send a test message through one channel or all of them."""
    settings = settings_from(data_dir)
    at_terminal(settings).require(Right.ADMINISTER)
    check_rules(settings.notify)
    known = settings.notify.channels
    if not known or channel not in (None, *known):
        raise SettingsError(
            f"There is no channel {channel or ''}".rstrip(), hint="DELTADEX_NOTIFY__CHANNELS names them."
        )
    failures = []
    for name in known if channel is None else [channel]:
        try:
            send(name, known[name], _TEST)
            console.print(f"[green]✓[/] {escape(name)}")
        except ChannelError as error:
            console.print(f"[red]✗[/] {escape(name)}")
            failures.append(error)
    if failures:
        raise ChannelError(failures[0].message, hint="Check its URL, and whether this machine reaches the service.")


@notify.command()
def log(
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many.", min=1)] = 50,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show what was sent through which channel, newest first."""
    with reading(data_dir, database_url) as (tx, settings):
        at_terminal(settings).require(Right.LOOK)
        found = deliveries.listing(tx, settings.registry, limit=limit)
    if json:
        print_json(
            [
                {
                    "rule": one.rule, "channel": one.channel, "events": one.events, "attempts": one.attempts,
                    "error": one.error, "tried_at": one.tried_at.isoformat(),
                    "delivered_at": one.delivered_at and one.delivered_at.isoformat(),
                }
                for one in found
            ]
        )  # fmt: skip
        return
    table = Table("tried", "rule", "channel", "findings", "attempts", "outcome")
    for one in found:
        outcome = "delivered" if one.delivered_at else f"[red]{escape(one.error)}[/]"
        names = escape(one.rule), escape(one.channel)
        table.add_row(f"{one.tried_at:%Y-%m-%d %H:%M:%S}", *names, str(one.events), str(one.attempts), outcome)
    console.print(table if found else "[dim]Nothing was sent.[/]")
