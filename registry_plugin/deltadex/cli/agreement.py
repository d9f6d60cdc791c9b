"""Agreement of the person at the terminal to texts that leave the house."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from deltadex.access import Person
from deltadex.cli.terminal import plain
from deltadex.endpoint.outgoing import AgreedEndpoint, Outgoing
from deltadex.errors import EndpointError
from deltadex.store.database import Database

#: Not standard output: that may be JSON.
notes = Console(stderr=True, highlight=False)


def agreed(outgoing: Outgoing, person: Person, database: Database, registry: str, *, yes: bool) -> AgreedEndpoint:
    """Show the texts exactly, ask, and return the endpoint that takes them.

    Parameters
    ----------
    yes
        The person agreed beforehand, by an option; the texts are shown all the same.

    Raises
    ------
    EndpointError
        The person did not agree, or is not there to ask.
    StoreError
        The store, in which everything that is sent is logged, can't be reached.
    """
    database.check()  # before a person reads pages of texts for nothing
    for number, text in enumerate(outgoing.texts, start=1):
        notes.print(f"[bold]── text {number} of {len(outgoing.texts)} ──[/]")
        notes.print(plain(text, multiline=True), soft_wrap=True)
    notes.print(plain(outgoing.summary))
    notes.print(
        "Requests hold these texts or parts of them, Deltadex's own instructions, and the endpoint's earlier answers. "
        "Each is logged: `deltadex endpoint log`."
    )
    if not yes and not (sys.stdin.isatty() and typer.confirm("Send them?", err=True)):
        raise EndpointError("Nothing was sent: you did not agree", hint="Answer y, or give --yes in a script.")
    return outgoing.agree(person, database, registry)
