"""The command `duplicates`: groups of redundant finetunes, with the version to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deltadex.access import at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.embeddings import reads as embeddings
from deltadex.settings import Settings
from deltadex.store.database import Database

if TYPE_CHECKING:
    from deltadex.duplicates.group import Group
    from deltadex.duplicates.overview import RecipeRedundancy
    from deltadex.findings.calibration import Threshold
    from deltadex.reviews.queries import ReviewRow
    from deltadex.types import FindingKind

    Reviewed = dict[tuple[FindingKind, frozenset[int]], ReviewRow]

console = Console(highlight=False)


def duplicates(
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Preview groups at this near-duplicate threshold (cosine similarity).",
            min=-1,
            max=1,
            show_default="calibrated, or the setting",
        ),
    ] = None,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Compare all versions again and replace the findings. Resumes after a kill."),
    ] = False,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show groups of redundant finetunes, the version to keep and why, and the bytes freed by retiring the rest."""
    if recompute:
        if threshold is not None:
            raise typer.BadParameter("cannot be combined with --recompute", param_hint="--threshold")
        _recompute(settings_from(data_dir, database_url=database_url), json=json)
        return
    # SciPy takes a second to import: only commands that need it import it.
    from deltadex.duplicates.group_findings import GROUP_KINDS
    from deltadex.duplicates.overview import redundancies
    from deltadex.reviews import actions as reviews
    from deltadex.reviews.groups import by_members

    with reading(data_dir, database_url) as (tx, viewer, settings):
        by_recipe = redundancies(tx, viewer, settings, similarity=threshold)
        reviewed = by_members(reviews.listing(tx, viewer, settings, kinds=GROUP_KINDS))
    if json:
        print_json([_as_json(one, reviewed) for one in by_recipe])
        return
    for one in by_recipe:
        _show(one, reviewed)
    if not any(one.groups for one in by_recipe):
        console.print("[dim]No duplicates.[/]")


def _show(found: RecipeRedundancy, reviewed: Reviewed) -> None:
    caption = "\n".join(
        f"{name}: {f'{limit.value:g}, ' if limit.is_known else ''}{limit.note}"
        for name, limit in _thresholds(found).items()
    )
    if expected := found.calibration.false_pairs_in_words(found.recipe.embedded):
        caption += f"\nnear: {expected}"
    table = Table("group", "proposal", title=f"base {plain(found.recipe.base_name)}", show_lines=True)
    for group in found.groups:
        table.add_row("\n".join(_facts(group, reviewed)), "\n".join(_proposal(group)))
    console.print(table)
    console.print(f"[dim]{caption}[/]")
    if found.too_weak:
        console.print(f"[dim]Too weak to place: {', '.join(plain(row.label) for row in found.too_weak)}[/]")


def _facts(group: Group, reviewed: Reviewed) -> Iterator[str]:
    from deltadex.reviews.groups import finding_of

    yield f"[bold]{group.kind.words}[/], {len(group.versions)} versions"
    if review := finding_of(group, reviewed):
        yield f"finding {review.id}, {review.review.status.replace('_', ' ')}"
    yield f"similarity {group.lowest_similarity:.4f}"
    yield f"norm ratio {group.lowest_norm_ratio:.2f}"
    yield from (f"owner {plain(owner)}" for owner in group.owners)


def _proposal(group: Group) -> Iterator[str]:
    proposal = group.proposal
    if proposal.keeper is None:
        yield f"nothing: {plain(proposal.reason)}. {proposal.advice}"
        yield from (plain(row.label) for row in group.versions if row.id not in proposal.spared)
        return
    yield f"keep [bold]{plain(proposal.keeper.label)}[/]: {plain(proposal.reason)}"
    yield from (f"{group.kind.verb} {plain(row.label)}" for row in proposal.retired)
    for row in group.versions:
        if row.id in proposal.spared:
            yield f"leave {plain(row.label)}: {plain(proposal.spared[row.id])}"
    if group.freed_bytes is not None:
        yield f"frees {decimal(group.freed_bytes)}"


def _thresholds(found: RecipeRedundancy) -> dict[str, Threshold]:
    calibration = found.calibration
    return {
        "near, similarity": calibration.near_similarity,
        "near, norm ratio": calibration.near_norm_ratio,
        "same task, similarity": calibration.same_task,
    }


def _as_json(found: RecipeRedundancy, reviewed: Reviewed) -> dict[str, Any]:
    from deltadex.reviews.groups import finding_of

    return {
        "recipe": found.recipe.digest,
        "base": found.recipe.base_name,
        "thresholds": {
            name: {**asdict(limit), "value": limit.value if limit.is_known else None}
            for name, limit in _thresholds(found).items()
        },
        "expected_false_near_pairs": found.calibration.false_pairs(found.recipe.embedded),
        "groups": [
            {
                "kind": group.kind,
                "finding": review.id if (review := finding_of(group, reviewed)) else None,
                "status": review.review.status if review else None,
                "versions": [
                    {**version_json(row), "owner": row.registered.owner, "aliases": list(row.registered.aliases)}
                    for row in group.versions
                ],
                "proposal": _proposal_json(group),
                "freed_bytes": group.freed_bytes,
                "owners": list(group.owners),
                "lowest_similarity": group.lowest_similarity,
                "lowest_norm_ratio": group.lowest_norm_ratio,
            }
            for group in found.groups
        ],
        "too_weak": [version_json(row) for row in found.too_weak],
    }


def _proposal_json(group: Group) -> dict[str, Any]:
    proposal = group.proposal
    return {
        "keep": proposal.keeper and version_json(proposal.keeper),
        "reason": proposal.reason,
        "advice": proposal.advice,
        "retire": [version_json(row) for row in proposal.retired],
        "left_alone": [
            {**version_json(row), "reason": proposal.spared[row.id]}
            for row in group.versions
            if row.id in proposal.spared
        ],
    }


def _recompute(settings: Settings, *, json: bool) -> None:
    from deltadex.ingest.recompute_duplicates import recompute_near_duplicates

    with Database(settings.url_of("writer")) as database:
        with database.transaction() as tx:
            recipes = embeddings.recipes(tx, at_terminal(settings), settings.registry)
        done = []
        for recipe in recipes:
            with _progress(recipe.base_name) as report:
                done.append((recipe, recompute_near_duplicates(settings, database, recipe, report)))
    if json:
        print_json(
            [{"recipe": recipe.digest, "base": recipe.base_name, **asdict(replaced)} for recipe, replaced in done]
        )
        return
    table = Table("base", "versions", "near duplicates", "new or changed", "gone")
    for recipe, found in done:
        numbers = (found.versions, found.pairs, found.changed, found.removed)
        table.add_row(plain(recipe.base_name), *(f"{number:,}" for number in numbers))
    console.print(table)


@contextmanager
def _progress(base: str) -> Iterator[Callable[[str, int, int], None]]:
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {
            step: progress.add_task(f"{plain(base)}: {step}", start=False, total=None)
            for step in ("reading", "comparing")
        }

        def report(step: str, done: int, total: int) -> None:
            progress.start_task(bars[step])
            progress.update(bars[step], completed=done, total=total)

        yield report
