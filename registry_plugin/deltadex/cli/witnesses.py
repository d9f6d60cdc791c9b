"""The commands `review witnesses` and `review publish`, and the witnesses' part of `review verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table

from deltadex.access import at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.errors import SettingsError
from deltadex.ownership import chain as ownership
from deltadex.reviews import actions as reviews
from deltadex.reviews.chain import Chain, cut
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.witness import queries
from deltadex.witness.backup import verify_backup
from deltadex.witness.compare import Answers, HeadComparison, ask, compare, compare_hashes
from deltadex.witness.configured import witnesses_of
from deltadex.witness.head import LogHead
from deltadex.witness.queries import HashedEntries, WitnessState
from deltadex.witness.reads import head_comparisons, witness_states

console = Console(highlight=False)

_TRY_AGAIN, FOUND_SOMETHING = 3, 4
_NEXT = (
    "Either the log was changed behind the database's triggers, or the head, file or witness that it is compared with "
    "was: ask the owners of both."
)
_NONE = "No witness is set: `deltadex review verify` can't tell a log that was cut off or wholly rewritten."


def witnesses(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show to which witnesses the head of the log is published, when it last was, and what went wrong."""
    with reading(data_dir, database_url) as (tx, person, settings):
        states = witness_states(tx, person, settings)
    names = [witness.name for witness in witnesses_of(settings)]
    known = {state.name: state for state in states}
    states = [known.pop(name, WitnessState(name)) for name in names] + list(known.values())
    if json:
        print_json([_state_json(state) for state in states])
        return
    table = Table(Column("witness", overflow="fold", ratio=2), "entries", "published", Column("state", ratio=2))
    for state in states:
        at = f"{state.published_at:%Y-%m-%d %H:%M}" if state.published_at else "never"
        table.add_row(plain(state.name), str(state.entries or ""), at, _state_words(state))
    console.print(table if states else f"[yellow]{_NONE}[/] See docs/witness.md.")


def publish(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Publish the head of the log to every witness now. The watcher does so by itself whenever the log grows."""
    from deltadex.witness.publish import publish as publish_now

    settings = settings_from(data_dir, database_url=database_url)
    if not settings.witnesses:
        raise SettingsError("No witness is set", hint="Set DELTADEX_WITNESSES; see docs/witness.md.")
    with Database(settings.url_of("writer"), role=settings.database.role) as database:
        taken = publish_now(settings, database, at_once=True)
        with database.transaction() as tx:
            states = queries.states(tx, settings.registry)
    failed = [state for state in states.values() if state.error]
    if json:
        print_json([_state_json(state) for state in states.values()])
    else:
        console.print(f"{taken} of {len(settings.witnesses)} witnesses took the head")
        for state in failed:
            console.print(f"[red]{plain(state.name)}[/]: {plain(state.error)}", soft_wrap=True)
    if failed:
        raise typer.Exit(_TRY_AGAIN)


def verified(
    data_dir: DataDir, database_url: DatabaseUrl, *, as_: str | None, head: str | None
) -> tuple[Chain, Chain, Sequence[HeadComparison]]:
    """Verify the log and the history of ownership, also against the witnesses, asked outside a transaction.

    Parameters
    ----------
    head
        An earlier head of one of both.
    """
    settings = settings_from(data_dir, database_url=database_url)
    person = at_terminal(settings, as_=as_)
    asked = witnesses_of(settings)
    with Database(settings.url_of("reader")) as database:
        with database.transaction() as tx:
            before = {state.name: state for state in witness_states(tx, person, settings)}
        answers: Answers = ask(asked, settings.registry, published=before)
        with database.transaction() as tx:
            is_owned = head is not None and queries.is_of_ownership(tx, head.rpartition(":")[2])
            chain = reviews.verify(tx, person, holding=None if is_owned else head)
            owned = ownership.verify(tx, person, holding=head if is_owned else None)
            return chain, owned, head_comparisons(tx, person, settings, answers)


def compared(settings: Settings, database: Database) -> Sequence[HeadComparison]:
    """Compare the log of a database with the witnesses of the settings."""
    answers = ask(witnesses_of(settings), settings.registry, published={})
    return database.run(lambda tx: compare(tx, settings.registry, answers))


def verified_backup(path: Path, data_dir: DataDir, *, head: str | None) -> tuple[Chain, Sequence[HeadComparison]]:
    """Verify the log of a backup without a database, and compare it with the witnesses of the settings."""
    settings = settings_from(data_dir)
    chain, hashes = verify_backup(path)
    fault = cut(head, {each: at for at, each in enumerate(hashes, start=1)})
    if chain.broken is None and fault is not None:
        chain = replace(chain, broken=fault[0], problem=fault[1])
    answers = ask(witnesses_of(settings), settings.registry, published={})
    return chain, compare_hashes(HashedEntries(len(hashes), dict(enumerate(hashes, start=1))), answers)


def report(
    chain: Chain,
    found: Sequence[HeadComparison],
    *,
    json: bool,
    owned: Chain | None = None,
    may_be_shorter: bool = False,
) -> None:
    """Print the result of a verification.

    Parameters
    ----------
    owned
        The history of ownership; None if it was not verified.
    may_be_shorter
        True if later heads of the witnesses are no fault, as for a backup of an earlier day.

    Raises
    ------
    typer.Exit
        With 4 if the log is broken or contradicts a witness, with 3 if nothing is wrong but a witness did not answer.
    """
    denied = [one for one in found if one.problem and not (may_be_shorter and one.is_shorter)]
    silent = [one for one in found if one.error]
    is_broken = chain.broken is not None or (owned is not None and owned.broken is not None)
    if json:
        print_json({
            **asdict(chain),
            "is_whole": not is_broken and not denied,
            "ownership": owned and {**asdict(owned), "is_whole": owned.broken is None},
            "witnesses": [_comparison_json(one) for one in found],
        })  # fmt: skip
    else:
        _print_chain(chain)
        if owned is not None and owned.entries:
            _print_chain(owned, "ownership: ")
        _print_witnesses(found, may_be_shorter=may_be_shorter)
        if is_broken or denied:
            console.print(f"[dim]→ {_NEXT}[/]", soft_wrap=True)
    if is_broken or denied:
        raise typer.Exit(FOUND_SOMETHING)
    if silent:
        raise typer.Exit(_TRY_AGAIN)


def _print_chain(chain: Chain, what: str = "") -> None:
    if chain.broken is None:
        console.print(f"{what}{chain.entries} entries, all unchanged; head {chain.head or 'none'}", soft_wrap=True)
    else:
        console.print(f"{what}[bold red]{plain(chain.problem)}[/]", soft_wrap=True)


def _print_witnesses(found: Sequence[HeadComparison], *, may_be_shorter: bool) -> None:
    for one in found:
        name = f"[bold]{plain(one.witness)}[/]"
        if one.error:
            console.print(f"[yellow]?[/] {name} did not answer: {plain(one.error)}", soft_wrap=True)
        elif one.problem and one.is_shorter and may_be_shorter:
            console.print(f"[yellow]![/] {name} holds later heads: what was decided since is not in it", soft_wrap=True)
        elif one.problem:
            console.print(f"[red]✗[/] {name}: [bold red]{plain(one.problem)}[/]", soft_wrap=True)
        else:
            up_to = f", up to entry {one.agreed.entries} of {one.agreed.at:%Y-%m-%d %H:%M} UTC" if one.agreed else ""
            console.print(f"[green]✓[/] {name}: the log contains all of its {one.heads} heads{up_to}", soft_wrap=True)
        if one.remark:
            console.print(f"  [yellow]{plain(one.remark)}[/]", soft_wrap=True)
    if not found:
        console.print(f"[yellow]{_NONE}[/]", soft_wrap=True)


def _state_words(state: WitnessState) -> str:
    if state.contradiction:
        return f"[bold red]{plain(state.contradiction)}[/]"
    if state.error:
        return f"[red]{plain(state.error)}[/] [dim](attempt {state.attempts})[/]"
    if state.caution:
        return f"[yellow]{plain(state.caution)}[/]"
    return "[green]as it should be[/]" if state.published_at or state.asked_at else "[dim]not yet[/]"


def _state_json(state: WitnessState) -> dict[str, Any]:
    values = asdict(state)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _comparison_json(one: HeadComparison) -> dict[str, Any]:
    return {**asdict(one), "agreed": _head_json(one.agreed), "denied": _head_json(one.denied)}


def _head_json(head: LogHead | None) -> dict[str, Any] | None:
    return None if head is None else {"entries": head.entries, "hash": head.hash, "at": head.at.isoformat()}
