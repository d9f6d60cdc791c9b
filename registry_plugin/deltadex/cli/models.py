"""The command `models`: the registered models, searched by words, owner, domain, state and date."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from deltadex.catalog.listing import ListedModel, ListedPage, ModelOrder, choices, listing
from deltadex.catalog.wanted import Wanted, parse_words
from deltadex.cli.filters import Since, States, Until
from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.reports.colors import STATE_COLORS
from deltadex.types import DOMAIN_TAG, RiskTier

console = Console(highlight=False)


def models(
    words: Annotated[
        list[str] | None, typer.Argument(help="Parts of the name or of a tag, or KEY:VALUE for a whole tag.")
    ] = None,
    team: Annotated[str | None, typer.Option(help="Only models of this team or owner.", show_default=False)] = None,
    tier: Annotated[RiskTier | None, typer.Option(help="Only models of this risk tier.", show_default=False)] = None,
    domain: Annotated[
        str | None, typer.Option(help="Only models of this domain: the tag, or the name of a cluster.")
    ] = None,
    state: States = None,
    since: Since = None,
    until: Until = None,
    order: Annotated[ModelOrder, typer.Option(help="Order of the list.")] = ModelOrder.NEWEST,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Models of one page.", min=1)] = 50,
    page: Annotated[int, typer.Option(help="Number of the page.", min=1)] = 1,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List the registered models, each with its newest version that meets all conditions."""
    # A word with a blank came in quotes: it stays one term.
    terms, tags = parse_words(
        " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words or ())
    )
    wanted = Wanted(
        terms, tags, team, tier, domain, frozenset(state or ()),
        since and since.replace(tzinfo=UTC), until and until.replace(tzinfo=UTC),
    )  # fmt: skip
    with reading(data_dir, database_url) as (tx, viewer, settings):
        found = listing(tx, viewer, settings.registry, wanted, number=page, size=limit, order=order)
        problems = choices(tx, viewer, settings.registry).unknown(wanted)
    if json:
        print_json([_as_json(one) for one in found.entries])
        return
    for problem in problems:
        console.print(f"[yellow]{plain(problem)}[/]")
    _show(found)


def _show(found: ListedPage) -> None:
    table = Table(
        Column("newest version", overflow="fold"), "state", "owner", "tier", "domain", "registered", "versions",
        caption=found.in_words,
    )  # fmt: skip
    for one in found.entries:
        version = one.version.registered
        color = STATE_COLORS[one.version.state].terminal
        table.add_row(
            plain(one.version.label),
            f"[{color}]{one.version.state}[/]",
            plain(version.owner or ""),
            version.tier or "",
            plain(one.domain),
            f"{one.version.registered_at:%Y-%m-%d}",
            str(one.versions),
        )
    console.print(table)


def _as_json(one: ListedModel) -> dict[str, Any]:
    version = one.version.registered
    return {
        **version_json(one.version),
        "versions": one.versions,
        "state": one.version.state,
        "aliases": list(version.aliases),
        "owner": version.owner,
        "tier": version.tier,
        "domain": version.tags.get(DOMAIN_TAG),
        "cluster": one.cluster or None,
        "registered": one.version.registered_at.isoformat(),
    }
