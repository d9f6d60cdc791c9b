"""The command `db`: maintenance of the store by the owner of its tables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.cli.reading import print_json
from deltadex.cli.terminal import plain
from deltadex.embeddings import prune as retention
from deltadex.search import indexes
from deltadex.store import copy as copying
from deltadex.store.database import Database
from deltadex.store.migrate import MigrationStatus, read_status
from deltadex.store.migrate import migrate as apply
from deltadex.store.roles import logins_of

commands = typer.Typer(help="Migrate, inspect, copy, index and prune the store.", no_args_is_help=True)
console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)


@commands.command()
def migrate(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring tables and rights up to date. Idempotent, and safe to run concurrently."""
    settings = settings_from(data_dir, database_url=database_url)
    with Database(settings.database_url) as database:
        applied = apply(database, logins=logins_of(settings.database))
        without_rights = read_status(database).without_rights
    if json:
        print_json({"applied": applied, "without_rights": without_rights})
        return
    console.print("\n".join(applied) or "up to date")
    _print_roles(without_rights)


@commands.command()
def status(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show server, migrations, roles, size, and the indexes that are due. Changes nothing."""
    with _database(data_dir, database_url) as database:
        found = read_status(database)
        with database.connect() as tx:
            due = indexes.due(tx) if not found.pending else {}
    if json:
        applied = {name: at.isoformat() for name, at in found.applied.items()}
        print_json(asdict(found) | {"applied": applied, "indexes_due": due})
        return
    _print_status(found)
    for recipe_id, codes in due.items():
        console.print(f"[yellow]recipe {recipe_id} has {codes:,} codes and no index[/]: `deltadex db index`")


@commands.command()
def copy(
    to: Annotated[
        str,
        typer.Option("--to", help="An empty Postgres database; PGPASSWORD may hold its password.", show_default=False),
    ],
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Copy the store into an empty database and verify every row. Stop the watcher and workers first."""
    with _database(data_dir, database_url) as source, Database(to) as target, notes.status("") as line:

        def show(table: str, rows: int, verified: bool) -> None:
            line.update(f"{table}: {rows:,} {'verified' if verified else 'copied'}")

        copied = copying.copy_store(source, target, on_progress=show)
        with target.transaction() as tx:
            due = indexes.due(tx)
    if json:
        print_json({"rows": copied, "indexes_due": due})
        return
    table = Table("table", "rows", caption="all rows verified")
    for name, rows in copied.items():
        table.add_row(name, f"{rows:,}")
    console.print(table)
    if due:
        console.print("Indexes are not copied: run `deltadex db index` on the copy.")


@commands.command()
def backup(
    output: Annotated[Path, typer.Option("--output", "-o", help="A new file.", show_default=False, dir_okay=False)],
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the store to a file, with the decision log and its proofs. Services may go on running.

    `review verify --backup` verifies the file without a database, `db restore` reads it into an empty one.
    """
    from deltadex.witness.backup import back_up

    with _database(data_dir, database_url) as database, notes.status("") as line:
        made = back_up(database, output, on_progress=lambda table, rows, _: line.update(f"{table}: {rows:,} written"))
    rows = sum(table.rows for table in made.tables.values())
    if json:
        print_json({"file": str(output), "rows": rows, "head": made.head, "made_at": made.made_at.isoformat()})
        return
    size = output.stat().st_size / 1e6
    console.print(f"{rows:,} rows, {size:,.1f} MB; head of the log {made.head or 'none'}", soft_wrap=True)


@commands.command()
def restore(
    backup_file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `db backup`.", exists=True)],
    to: Annotated[
        str,
        typer.Option("--to", help="An empty Postgres database; PGPASSWORD may hold its password.", show_default=False),
    ],
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Read a backup into an empty database, recompute the log's hashes and compare them with the witnesses.

    Exits with 4 if a witness holds another log.
    """
    from deltadex.cli import witnesses
    from deltadex.witness.backup import restore as read_into

    with Database(to) as target, notes.status("") as line:
        chain = read_into(
            target, backup_file, on_progress=lambda table, rows, _: line.update(f"{table}: {rows:,} read")
        )
        found = witnesses.compared(settings_from(data_dir), target)
        with target.transaction() as tx:
            due = indexes.due(tx)
    if due and not json:
        console.print("Indexes are not backed up: run `deltadex db index` on the new database.")
    witnesses.report(chain, found, json=json, may_be_shorter=True)


@commands.command()
def prune(
    days: Annotated[float, typer.Option(help="Days to keep an embedding after deletion or replacement.", min=0)] = 90,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the embeddings, delete nothing.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Delete embeddings that were superseded, or whose version was deleted, more than `--days` days ago.

    Versions, their histories, findings, decisions and the artifacts in MLflow stay.
    """
    with _database(data_dir, database_url) as database, database.transaction() as tx:
        pruned = retention.prune(tx, days=days)
        if dry_run:
            tx.rollback()
    if json:
        print_json(asdict(pruned) | {"dry_run": dry_run})
        return
    outcome = "would be deleted" if dry_run else "deleted"
    size = f"{pruned.vector_bytes / 1e6:.1f} MB of vectors"
    console.print(f"{outcome}: {pruned.deleted:,} of deleted versions, {pruned.superseded:,} superseded, {size}")


@commands.command()
def index(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Build the search indexes that are due. Reads and writes continue."""
    with _database(data_dir, database_url) as database:
        built = indexes.build(database)
    if json:
        print_json({"built": built})
        return
    console.print(f"built for recipes {', '.join(map(str, built))}" if built else "none is due")


def _database(data_dir: Any, database_url: str | None) -> Database:
    return Database(settings_from(data_dir, database_url=database_url).database_url)


def _print_status(found: MigrationStatus) -> None:
    console.print(
        f"PostgreSQL {plain(found.server)}, pgvector {found.vector or 'missing'}, {found.size_bytes / 1e6:,.1f} MB"
    )
    if found.owner:
        console.print(f"owner: {plain(found.owner)}; only the owner may migrate, copy, index and prune")
    for name, at in found.applied.items():
        console.print(f"[green]✓[/] {plain(name)} [dim]{at:%Y-%m-%d %H:%M}[/]")
    for name in found.pending:
        console.print(f"[yellow]·[/] {name} [dim]missing: `deltadex db migrate`[/]")
    _print_roles(found.without_rights if found.applied else [])


def _print_roles(without_rights: list[Any]) -> None:
    if without_rights:
        console.print(
            f"[yellow]{', '.join(map(plain, without_rights))}[/] may not use these tables yet: an administrator runs "
            "`create role …` for missing roles, then the owner runs `deltadex db migrate`",
            soft_wrap=True,
        )
