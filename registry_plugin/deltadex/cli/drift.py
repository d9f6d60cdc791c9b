"""`drift`: how a registered model moved from version to version."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.cli.status import unknown_version
from deltadex.settings import ThresholdSettings
from deltadex.store import versions

if TYPE_CHECKING:
    from deltadex.analysis.drift import Move
    from deltadex.drifting import ModelDrift, Nearest, Towards

console = Console(highlight=False)

_SHOWN = 10


def drift(
    name: Annotated[str, typer.Argument(help="A registered model.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", metavar="ALIAS", help="Also measure from this alias's version.")
    ] = "champion",
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show how far each version moved from the one before, from the first, and from the version an alias points at."""
    from deltadex.drifting import model_drift

    with reading(data_dir, database_url) as (tx, settings):
        if not versions.find(tx, settings.registry, name):
            raise unknown_version(name)
        thresholds = settings.thresholds
        drifted = model_drift(tx, settings.registry, name, thresholds=thresholds, alias=to)
    if json:
        print_json([_as_json(drifted, thresholds)] if drifted else [])
    elif drifted:
        _show(drifted, thresholds)
    else:
        console.print(f"[dim]{name} has fewer than two embedded versions that can be placed.[/]")


def _show(drifted: ModelDrift, thresholds: ThresholdSettings) -> None:
    target = f"from @{drifted.alias}" if drifted.alias else ""
    columns = ("step", "distance", "noise", "probes", "strength", "from the first", target, "")
    caption = "cosine distances; probes: the shortest and the longest; noise: what noise or another seed alone may do"
    table = Table(*columns, title=drifted.name, caption=caption)
    for place, step in enumerate(drifted.steps):
        older, newer = (row.registered.ref.version for row in drifted.versions[place : place + 2])
        table.add_row(
            f"{older} → {newer}",
            *_numbers(step.previous),
            "" if step.first is None else f"{step.first.distance:.4f}",
            "" if step.alias is None else f"{step.alias.distance:.4f}",
            _remark(drifted, place, thresholds),
        )
    console.print(table)
    for place, towards in drifted.towards.items():
        _show_words(drifted.versions[place + 1].registered.ref.version, towards)
    if drifted.too_weak:
        console.print(f"[dim]Too weak to place: {', '.join(row.label for row in drifted.too_weak)}[/]")


def _show_words(version: int, towards: Towards) -> None:
    if towards.words is None or towards.words.note:
        why = towards.words.note if towards.words else "they were not asked for when it was embedded."
        console.print(f"[dim]{version}: no words, {escape(why)}[/]")
        return
    for way, said in (("promotes", towards.words.promoted), ("demotes", towards.words.demoted)):
        listed = ", ".join(f"{escape(word.text)} [dim]{word.score:+.1f}[/]" for word in said[:_SHOWN])
        console.print(f"{version} {way} more than before, by at least so many deviations: {listed or 'nothing'}")


def _numbers(move: Move | None) -> tuple[str, str, str, str]:
    if move is None:
        return "–", "", "", ""
    probes = move.probe_distances
    return (
        f"{move.distance:.4f}",
        f"{move.noise:.4f}",
        f"{min(probes):.4f}–{max(probes):.4f}" if probes else "",
        "" if move.strength_ratio is None else f"× {move.strength_ratio:.2f}",
    )


def _remark(drifted: ModelDrift, place: int, thresholds: ThresholdSettings) -> str:
    step = drifted.steps[place]
    if step.broken:
        return f"[yellow]break: {step.broken}[/]"
    remarks = []
    if step.change and step.reference is not None:
        since = drifted.versions[step.reference].registered.ref.version
        moved = drifted.towards[place].clusters
        remarks.append(f"[bold red]drift[/], {step.change} since {since}{escape(f', {moved}' if moved else '')}")
    elif step.previous and not step.previous.is_beyond_noise:
        remarks.append("[dim]within noise[/]")
    if step.previous and step.previous.changes_strength(thresholds.drift_norm_ratio):
        remarks.append("[bold]strength[/]")
    return ", ".join(remarks)


def _as_json(drifted: ModelDrift, thresholds: ThresholdSettings) -> dict[str, Any]:
    return {
        "name": drifted.name,
        "thresholds": {"distance": thresholds.drift_distance, "strength_ratio": thresholds.drift_norm_ratio},
        "alias": drifted.alias,
        "first": drifted.versions[0].registered.ref.version,
        "steps": [_step_json(drifted, place, thresholds) for place in range(len(drifted.steps))],
        "too_weak": [row.registered.ref.version for row in drifted.too_weak],
    }


def _step_json(drifted: ModelDrift, place: int, thresholds: ThresholdSettings) -> dict[str, Any]:
    step = drifted.steps[place]
    towards = drifted.towards.get(place)
    return {
        "version": drifted.versions[place + 1].registered.ref.version,
        "break": step.broken,
        "from_previous": _move_json(drifted, step.previous, thresholds),
        "from_first": _move_json(drifted, step.first, thresholds),
        "from_alias": _move_json(drifted, step.alias, thresholds),
        "is_drift": step.change is not None,
        "change": step.change,
        "since": None if step.reference is None else drifted.versions[step.reference].registered.ref.version,
        "towards": towards
        and {
            "left": _nearest_json(towards.left),
            "came_to": _nearest_json(towards.came_to),
            "words": towards.words and asdict(towards.words),
        },
    }


def _nearest_json(nearest: Nearest | None) -> dict[str, Any] | None:
    if nearest is None:
        return None
    cluster = nearest.cluster
    return {
        "cluster": cluster.id,
        "name": cluster.name,
        "similarity": nearest.similarity,
        "is_member": nearest.is_member,
    }


def _move_json(drifted: ModelDrift, move: Move | None, thresholds: ThresholdSettings) -> dict[str, Any] | None:
    if move is None:
        return None
    return {
        "recipe": drifted.recipes[move.recipe_id].digest,
        "distance": move.distance,
        "noise": move.noise,
        "is_beyond_noise": move.is_beyond_noise,
        "strength_ratio": move.strength_ratio,
        "is_strength_change": move.changes_strength(thresholds.drift_norm_ratio),
        "probe_distances": None if move.probe_distances is None else list(move.probe_distances),
    }
