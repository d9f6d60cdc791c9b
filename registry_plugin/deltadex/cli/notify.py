"""The command `notify`: tests of the channels, and the log of messages."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deltadex.access import Right, at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.errors import ChannelError, SettingsError
from deltadex.notifications import queries as deliveries
from deltadex.notifications.channels import send
from deltadex.notifications.message import Message, check_rules

console = Console(highlight=False)

notify = typer.Typer(name="notify", help="Test notification channels and show the message log.", no_args_is_help=True)

_TEST = Message("Deltadex: test message", "This channel works. No action is needed.")


@notify.command("test")
def try_(
    channel: Annotated[str | None, typer.Argument(help="A channel name from the settings.", show_default="all")] = None,
    data_dir: DataDir = None,
) -> None:
    """Send a test message to one channel or to all."""
    settings = settings_from(data_dir)
    at_terminal(settings).require(Right.ADMINISTER)
    check_rules(settings.notify)
    known = settings.notify.channels
    if not known or channel not in (None, *known):
        raise SettingsError(
            f"There is no channel {channel or ''}".rstrip(), hint="DELTADEX_NOTIFY__CHANNELS lists the channels."
        )
    failures = []
    for name in known if channel is None else [channel]:
        try:
            send(name, known[name], _TEST)
            console.print(f"[green]✓[/] {plain(name)}")
        except ChannelError as error:
            console.print(f"[red]✗[/] {plain(name)}")
            failures.append(error)
    if failures:
        raise ChannelError(failures[0].message, hint="Check its URL, and that this machine can reach the service.")


@notify.command()
def log(
    limit: Annotated[int, typer.Option("--limit", "-k", help="Maximum number of messages.", min=1)] = 50,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show messages and their delivery, newest first."""
    with reading(data_dir, database_url) as (tx, viewer, settings):
        viewer.require(Right.LOOK)
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
        outcome = "delivered" if one.delivered_at else f"[red]{plain(one.error)}[/]"
        names = plain(one.rule), plain(one.channel)
        table.add_row(f"{one.tried_at:%Y-%m-%d %H:%M:%S}", *names, str(one.events), str(one.attempts), outcome)
    console.print(table if found else "[dim]Nothing was sent.[/]")
