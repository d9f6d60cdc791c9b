"""`deltadex db`: the store's own upkeep."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict

import typer
from rich.console import Console

from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.store import indexes
from deltadex.store.database import Database
from deltadex.store.migrate import migrate as migrate_store
from deltadex.store.migrate import read_status

console = Console(highlight=False)

db = typer.Typer(name="db", help="Look after the store: migrations, rights, indexes.", no_args_is_help=True)


@db.command()
def migrate(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the tables up to date; idempotent, and safe while others work."""
    with _database(data_dir, database_url) as database:
        applied = migrate_store(database)
    if json:
        print(json_format.dumps({"applied": applied}))
    else:
        console.print(f"applied {', '.join(applied)}" if applied else "up to date")


@db.command()
def status(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show versions, migrations, the roles that lack rights, and the size."""
    with _database(data_dir, database_url) as database:
        found = read_status(database)
    if json:
        print(json_format.dumps(asdict(found), indent=2, default=str))
        return
    console.print(f"Postgres {found.server}, pgvector {found.vector or 'not enabled'}, {found.size_bytes / 1e6:.1f} MB")
    for name, at in found.applied.items():
        console.print(f"  {name} [dim]{at:%Y-%m-%d %H:%M:%S}[/]")
    for name in found.pending:
        console.print(f"  {name} [yellow]not applied: run `deltadex db migrate`[/]")
    if found.without_rights:
        roles = ", ".join(found.without_rights)
        console.print(
            f"[yellow]No rights for {roles}[/]: an administrator creates them (`create role … nologin`), then "
            f"{found.owner or 'the owner'} runs `deltadex db migrate`."
        )


@db.command()
def index(json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Build the search indexes that large recipes lack, while others read and write."""
    with _database(data_dir, database_url) as database, console.status("building"):
        built = indexes.build(database)
    if json:
        print(json_format.dumps({"built": built}))
    else:
        console.print(f"built for {len(built)} recipe(s)" if built else "no recipe is large enough to need one")


def _database(data_dir: DataDir, database_url: DatabaseUrl) -> Database:
    return Database(settings_from(data_dir, database_url=database_url).database_url)
