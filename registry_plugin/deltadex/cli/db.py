"""`db`: the store's own housekeeping, for whoever owns its tables."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.store import copying, indexes, retention
from deltadex.store.database import Database
from deltadex.store.migrate import Status, read_status
from deltadex.store.migrate import migrate as apply

app = typer.Typer(help="Migrate, look at, copy, index and prune the store.", no_args_is_help=True)
console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)


@app.command()
def migrate(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring tables and rights up to date. May be run again at any time, and by many at once."""
    with _database(data_dir, database_url) as database:
        applied = apply(database)
        left = read_status(database).without_rights
    if json:
        _print_json({"applied": applied, "without_rights": left})
        return
    console.print("\n".join(applied) or "up to date")
    _print_roles(left)


@app.command()
def status(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show server, migrations, roles, size, and which indexes are due. Changes nothing."""
    with _database(data_dir, database_url) as database:
        found = read_status(database)
        with database.connect() as tx:
            due = indexes.due(tx) if not found.pending else {}
    if json:
        applied = {name: at.isoformat() for name, at in found.applied.items()}
        _print_json(asdict(found) | {"applied": applied, "indexes_due": due})
        return
    _print_status(found)
    for recipe_id, codes in due.items():
        console.print(f"[yellow]recipe {recipe_id} has {codes:,} codes and no index[/]: `deltadex db index`")


@app.command()
def copy(
    to: Annotated[
        str, typer.Option("--to", help="Another Postgres, empty; a password may be in PGPASSWORD.", show_default=False)
    ],
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Copy the store into an empty database, and compare every row. Stop watcher and workers before."""
    with _database(data_dir, database_url) as source, Database(to) as target, notes.status("") as line:

        def show(table: str, rows: int, verified: bool) -> None:
            line.update(f"{table}: {rows:,} {'verified' if verified else 'copied'}")

        copied = copying.copy_store(source, target, on_progress=show)
        with target.transaction() as tx:
            due = indexes.due(tx)
    if json:
        _print_json({"rows": copied, "indexes_due": due})
        return
    table = Table("table", "rows", caption="every row is the same there")
    for name, rows in copied.items():
        table.add_row(name, f"{rows:,}")
    console.print(table)
    if due:
        console.print("Indexes are not copied: run `deltadex db index` there.")


@app.command()
def prune(
    days: Annotated[float, typer.Option(help="How long vectors are kept that nobody compares.", min=0)] = 90,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Remove embeddings of versions that were deleted, and superseded ones, more than so many days ago.

    Versions, their histories, findings and decisions stay, and so do the artifacts in MLflow.
    """
    with _database(data_dir, database_url) as database, database.transaction() as tx:
        gone = retention.prune(tx, days=days)
        if dry_run:
            tx.rollback()
    if json:
        _print_json(asdict(gone) | {"dry_run": dry_run})
        return
    what = "would go" if dry_run else "removed"
    size = f"{gone.vector_bytes / 1e6:.1f} MB of vectors"
    console.print(f"{what}: {gone.deleted:,} of deleted versions, {gone.superseded:,} superseded, {size}")


@app.command()
def index(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Build the search indexes that are due, while others read and write."""
    with _database(data_dir, database_url) as database:
        built = indexes.build(database)
    if json:
        _print_json({"built": built})
        return
    console.print(f"built for recipes {', '.join(map(str, built))}" if built else "none is due")


def _database(data_dir: Any, database_url: str | None) -> Database:
    return Database(settings_from(data_dir, database_url=database_url).database_url)


def _print_status(found: Status) -> None:
    console.print(f"PostgreSQL {found.server}, pgvector {found.vector or 'missing'}, {found.size_bytes / 1e6:,.1f} MB")
    if found.owner:
        console.print(f"owner: {found.owner}, who alone may migrate, copy, index and prune")
    for name, at in found.applied.items():
        console.print(f"[green]✓[/] {name} [dim]{at:%Y-%m-%d %H:%M}[/]")
    for name in found.pending:
        console.print(f"[yellow]·[/] {name} [dim]missing: `deltadex db migrate`[/]")
    _print_roles(found.without_rights if found.applied else [])


def _print_roles(left: list[Any]) -> None:
    if left:
        console.print(
            f"[yellow]{', '.join(left)}[/] may not use these tables yet: an administrator runs `create role …` for "
            "those that are missing, then the owner `deltadex db migrate`",
            soft_wrap=True,
        )


def _print_json(value: object) -> None:
    print(json_format.dumps(value, indent=2))
