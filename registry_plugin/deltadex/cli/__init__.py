"""The command line: one small file per group of commands."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console

import deltadex
from deltadex.cli import (
    across,
    advise,
    augment,
    backfill,
    check,
    clusters,
    compare,
    db,
    demo,
    doctor,
    drift,
    duplicates,
    embed,
    endpoint,
    evidence,
    extract_adapter,
    find,
    geometry,
    lineage,
    mcp,
    merge,
    method,
    models,
    neighbors,
    news,
    notify,
    ownership,
    rebuild,
    replay,
    report,
    review,
    safety,
    stack,
    status,
    taught,
    watch,
    words,
)
from deltadex.cli.terminal import PrintableFormatter, plain
from deltadex.errors import DeltadexError

_TRY_AGAIN = 3

app = typer.Typer(
    name="deltadex",
    help="Embed the finetunes in an MLflow Model Registry, and find duplicates, drift and domains.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(is_set: bool) -> None:
    if is_set:
        print(f"deltadex {deltadex.__version__}")
        raise typer.Exit


def _stated(error: DeltadexError | OSError) -> DeltadexError:
    """Return the error to show; raise one of the system that is about no file that was named."""
    if isinstance(error, DeltadexError):
        return error
    if error.filename is None:
        raise error
    return DeltadexError(f"{error.filename}: {error.strerror}", hint="Name another file or folder.")


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Log in detail and show tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Set up logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    if not debug:
        # urllib3 logs every retry; the error message is enough. bitsandbytes, which peft imports, misses a package for
        # 4-bit products, which nothing here computes.
        for noisy in ("urllib3", "bitsandbytes"):
            logging.getLogger(noisy).setLevel(logging.ERROR)


for command in (
    demo.demo,
    stack.up,
    stack.down,
    stack.init,
    watch.watch,
    embed.embed,
    extract_adapter.extract_adapter,
    status.status,
    status.retry,
    news.news,
    models.models,
    ownership.own,
    ownership.attest,
    neighbors.neighbors,
    across.across,
    find.find,
    augment.augment,
    advise.advise,
    replay.replay,
    safety.safety,
    taught.taught,
    duplicates.duplicates,
    drift.drift,
    compare.compare,
    lineage.lineage,
    merge.merge,
    clusters.explain,
    geometry.geometry,
    words.words,
    rebuild.rebuild,
    check.check,
    mcp.mcp,
    report.report,
    doctor.doctor,
):
    app.command()(command)
app.command("inventory")(ownership.inventory_)
app.add_typer(backfill.backfill)
app.add_typer(clusters.commands, name="clusters")
app.add_typer(db.commands, name="db")
app.add_typer(endpoint.endpoint)
app.add_typer(evidence.evidence)
app.add_typer(method.method)
app.add_typer(review.review)
app.add_typer(notify.notify)


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a stated error, 2 usage, 3 try again later, 4 a check found something. Tracebacks
    are shown only with `--debug`.
    """
    # Typer accepts `--debug` only before the command: move it there.
    debug = "--debug" in sys.argv
    arguments = ["--debug"] * debug + [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except (DeltadexError, OSError) as failure:
        console, error = Console(stderr=True, highlight=False), _stated(failure)
        if debug:
            console.print(plain(traceback.format_exc(), multiline=True), soft_wrap=True)
        # The message of a service that did not start ends with lines of its log.
        console.print(f"[bold red]Error:[/] {plain(error.message, multiline=True)}")
        if error.hint:
            console.print(f"[bold]Hint:[/] {plain(error.hint)}")
        sys.exit(_TRY_AGAIN if error.retryable else 1)
