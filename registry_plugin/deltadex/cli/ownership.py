"""The commands `own`, `attest` and `inventory`: who answers for registered models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.errors import AccessDenied
from deltadex.ownership import actions, inventory, reads
from deltadex.ownership.attestation import STATEMENT, AttestationState, Ownership
from deltadex.ownership.facts import OwnershipField
from deltadex.ownership.inventory import InventoryRow
from deltadex.ownership.queries import OwnershipEntry
from deltadex.types import RiskTier

console = Console(highlight=False)

Model = Annotated[str, typer.Argument(help="The registered model.")]
As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Act as another person. Only without an access file.")
]


class InventoryFormat(StrEnum):
    """Formats of the inventory."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def own(
    model: Model,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.", show_default=False)] = None,
    tier: Annotated[RiskTier | None, typer.Option(help="Its risk or materiality tier.", show_default=False)] = None,
    intended_use: Annotated[str | None, typer.Option(help="What it is for.", show_default=False)] = None,
    review_by: Annotated[
        str | None, typer.Option(metavar="DATE", help="Date of its next review: 2026-12-31.", show_default=False)
    ] = None,
    reset: Annotated[
        list[OwnershipField] | None,
        typer.Option(help="Take back what was stated: the tag applies. Repeatable.", show_default=False),
    ] = None,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show who answers for a registered model, or state it: that wins over MLflow's tags, and is written there."""
    values = dict(zip(OwnershipField, (owner, tier, intended_use, review_by), strict=True))
    changes: dict[OwnershipField, str | None] = {field: text for field, text in values.items() if text is not None}
    for field in reset or ():
        if field in changes:
            raise typer.BadParameter(f"{field} is stated and taken back at once", param_hint="--reset")
        changes[field] = None
    with reading(data_dir, database_url, as_=as_, login="dashboard" if changes else "reader") as (tx, person, settings):
        if changes:
            actions.edit(tx, person, settings, model, changes)
        known = reads.of_model(tx, person, settings, model)
        entries = reads.history(tx, person, settings, model)
    if known is None:
        raise AccessDenied(f"The registered model {model} is not known", hint="`deltadex models` lists them.")
    if json:
        print_json({**_as_json(known), "history": [_entry_json(entry) for entry in entries]})
        return
    _show(known)
    for entry in entries:
        console.print(_sentence(entry))


def attest(
    model: Model,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Attest as its owner: I know this model, and its use is as stated. It lasts as long as the tier allows."""
    with reading(data_dir, database_url, as_=as_, login="dashboard") as (tx, person, settings):
        known = actions.attest(tx, person, settings, model)
    if json:
        print_json(_as_json(known))
        return
    console.print(f"{plain(person.name)}, for {plain(known.owner)}: “{STATEMENT}”")
    console.print(f"intended use: {plain(known.intended_use, multiline=True)}")
    console.print(f"attested until {known.until}")


def inventory_(
    format_: Annotated[InventoryFormat, typer.Option("--format", help="Format.")] = InventoryFormat.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.", dir_okay=False, show_default=False)
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List all registered models with owner, tier, use, attestation, findings, base and licence."""
    from deltadex.reports.table import as_csv

    with reading(data_dir, database_url) as (tx, viewer, settings):
        rows = inventory.inventory(tx, viewer, settings)
    written = ""
    if json or format_ is InventoryFormat.JSON:
        written = json_text([row.values() for row in rows])
    elif format_ is InventoryFormat.CSV:
        written = as_csv(InventoryRow.columns(), [tuple(row.values().values()) for row in rows])
    if output is not None:
        if not written:
            raise typer.BadParameter("a file needs --format csv or json", param_hint="--output")
        output.write_text(written, encoding="utf-8", newline="")
        console.print(f"{plain(output)}: {len(rows):,} registered models")
    elif written:
        print(written, end="" if written.endswith("\n") else "\n")
    else:
        _list(rows)


def json_text(value: object) -> str:
    """Return a value as indented JSON."""
    from json import dumps

    return dumps(value, indent=2)


def _list(rows: list[InventoryRow]) -> None:
    table = Table(
        Column("model", overflow="fold"), Column("owner", overflow="fold"), "tier", "attestation", "findings", "base",
        caption=f"{len(rows):,} registered models; --format csv has all columns",
    )  # fmt: skip
    for row in rows:
        until = f"{row.attestation} until {row.attested_until}" if row.attested_until else row.attestation
        overdue = f"{row.open_findings}, [red]{row.overdue_findings} overdue[/]" if row.overdue_findings else ""
        table.add_row(
            plain(row.model), plain(row.owner), row.tier, until, overdue or str(row.open_findings), plain(row.bases)
        )
    console.print(table)


def _show(known: Ownership) -> None:
    for field in OwnershipField:
        fact = known.fact(field)
        origin = f"{fact.origin}{f' {fact.tag}' if fact.tag else ''}"
        value = f"{plain(fact.value, multiline=True)} [dim]({plain(origin)})[/]" if fact.value else "[dim]not known[/]"
        console.print(f"[dim]{field.words:>14}[/] {value}")
        if fact.remark:
            console.print(f"{'':>14} [yellow]{plain(fact.remark)}[/]")
    color = "green" if known.state.is_fine else "red"
    until = f" until {known.until}" if known.state is AttestationState.CURRENT else ""
    console.print(f"[dim]{'attestation':>14}[/] [{color}]{known.state}[/]{until} {plain(known.reason)}")


def _sentence(entry: OwnershipEntry) -> str:
    at = f"[dim]{entry.recorded_at:%Y-%m-%d %H:%M}[/] {plain(entry.person)}"
    if entry.field == "attestation":
        return f"{at} attested it, as owned by {plain(entry.statement.get('owner', ''))}"
    former, stated = ("the tag" if text is None else f"“{plain(text[:80])}”" for text in (entry.former, entry.stated))
    return f"{at} changed {OwnershipField(entry.field).words}: {former} → {stated}"


def _as_json(known: Ownership) -> dict[str, Any]:
    attested = known.attestation
    return {
        "model": known.model,
        **{
            field.value: {
                "value": known.fact(field).value or None,
                "from": known.fact(field).origin.value,
                "tag": known.fact(field).tag or None,
                "remark": known.fact(field).remark or None,
            }
            for field in OwnershipField
        },
        "attestation": {
            "state": known.state.value,
            "reason": known.reason or None,
            "until": known.until and known.until.isoformat(),
            "by": attested and attested.by,
            "at": attested and attested.at.isoformat(),
        },
    }


def _entry_json(entry: OwnershipEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.recorded_at.isoformat(),
        "person": entry.person,
        "identity": entry.identity,
        "field": entry.field,
        "former": entry.former,
        "stated": entry.stated,
        "statement": dict(entry.statement),
        "hash": entry.hash,
    }
