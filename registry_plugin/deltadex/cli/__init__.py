"""The command line: one small file per group of commands."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.console import Console

from deltadex.cli import (
    clusters,
    db,
    demo,
    doctor,
    drift,
    duplicates,
    embed,
    find,
    geometry,
    neighbors,
    notify,
    rebuild,
    report,
    review,
    stack,
    status,
    watch,
    words,
)
from deltadex.errors import DeltadexError

_TRY_AGAIN = 3

app = typer.Typer(
    name="deltadex",
    help="Embeds every finetune in an MLflow Model Registry by what it does, and finds duplicates, drift and domains.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Log in detail and show tracebacks.")] = False,
) -> None:
    """Set up logging for every command."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    if not debug:
        # Each retry of a server that is away would be a line; the error says it once.
        logging.getLogger("urllib3").setLevel(logging.ERROR)


for command in (
    demo.demo,
    stack.up,
    stack.down,
    stack.init,
    watch.watch,
    embed.embed,
    status.status,
    status.retry,
    neighbors.neighbors,
    find.find,
    duplicates.duplicates,
    drift.drift,
    clusters.explain,
    geometry.geometry,
    words.words,
    rebuild.rebuild,
    report.report,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(clusters.app, name="clusters")
app.add_typer(db.app, name="db")
app.add_typer(review.review)
app.add_typer(notify.notify)


def main() -> None:
    """Run the command line: 0 done, 1 a stated error, 2 usage, 3 try again later. Tracebacks only with `--debug`."""
    # Accepted anywhere on the line, not only before the command.
    debug = "--debug" in sys.argv
    arguments = ["--debug"] * debug + [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except DeltadexError as error:
        if debug:
            raise
        console = Console(stderr=True, highlight=False)
        console.print(f"[bold red]Error:[/] {_escape(error.message)}")
        if error.hint:
            console.print(f"[bold]Hint:[/] {_escape(error.hint)}")
        sys.exit(_TRY_AGAIN if error.retryable else 1)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
