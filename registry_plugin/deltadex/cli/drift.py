"""The command `drift`: distances between the versions of a registered model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading
from deltadex.cli.terminal import plain
from deltadex.setting_groups import ThresholdSettings
from deltadex.versions import reads as versions
from deltadex.versions.labels import unknown

if TYPE_CHECKING:
    from deltadex.drift.line import Move
    from deltadex.drift.model_drift import DriftDirection, ModelDrift, Nearest

console = Console(highlight=False)

_SHOWN = 10


def drift(
    name: Annotated[str, typer.Argument(help="A registered model.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", metavar="ALIAS", help="Also measure from the version with this alias.")
    ] = "champion",
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the distance of each version from the one before, from the first and from an alias's version."""
    from deltadex.drift.model_drift import model_drift

    with reading(data_dir, database_url) as (tx, viewer, settings):
        if not versions.find(tx, viewer, settings.registry, name):
            raise unknown(name)
        thresholds = settings.thresholds
        drifted = model_drift(tx, viewer, settings.registry, name, thresholds=thresholds, alias=to)
    if json:
        print_json([_as_json(drifted, thresholds)] if drifted else [])
    elif drifted:
        _show(drifted, thresholds)
    else:
        console.print(f"[dim]{plain(name)} has fewer than two embedded versions that can be placed.[/]")


def _show(drifted: ModelDrift, thresholds: ThresholdSettings) -> None:
    target = f"from @{plain(drifted.alias)}" if drifted.alias else ""
    columns = ("step", "distance", "noise", "probes", "strength", "from the first", target, "")
    caption = "cosine distances; probes: smallest and largest of all probes; noise: distance by noise or seed alone"
    table = Table(*columns, title=plain(drifted.name), caption=caption)
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
    for place, direction in drifted.directions.items():
        version = drifted.versions[place + 1].registered.ref.version
        for one in direction.differences[:_SHOWN]:
            console.print(f"{version} differs in {plain(str(one))}")
        _show_words(version, direction)
    if drifted.too_weak:
        console.print(f"[dim]Too weak to place: {', '.join(plain(row.label) for row in drifted.too_weak)}[/]")


def _show_words(version: int, direction: DriftDirection) -> None:
    if direction.words is None or direction.words.note:
        reason = direction.words.note if direction.words else "they were turned off when it was embedded."
        console.print(f"[dim]{version}: no words, {plain(reason)}[/]")
        return
    for verb, changed in (("promotes", direction.words.promoted), ("demotes", direction.words.demoted)):
        listed = ", ".join(f"{plain(word.text)} [dim]{word.score:+.1f}[/]" for word in changed[:_SHOWN])
        console.print(f"{version} {verb} more than before (at least, in standard deviations): {listed or 'nothing'}")


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
    if step.back_to is not None:
        remarks.append(f"[green]back to {drifted.versions[step.back_to].registered.ref.version}[/]")
    elif step.change and step.reference is not None:
        since = drifted.versions[step.reference].registered.ref.version
        moved = drifted.directions[place].clusters
        remarks.append(f"[bold red]drift[/], {step.change} since {since}{plain(f', {moved}' if moved else '')}")
        remarks += [step.in_words] if step.in_words else []
    elif step.previous and not step.previous.is_beyond_noise:
        remarks.append("[dim]within noise[/]")
    if step.previous and step.previous.changes_strength(thresholds.drift_norm_ratio):
        remarks.append("[bold]strength[/]")
    return ", ".join(remarks)


def _as_json(drifted: ModelDrift, thresholds: ThresholdSettings) -> dict[str, Any]:
    return {
        "name": drifted.name,
        "thresholds": {"distance": drifted.limit, "strength_ratio": thresholds.drift_norm_ratio},
        "alias": drifted.alias,
        "first": drifted.versions[0].registered.ref.version,
        "steps": [_step_json(drifted, place, thresholds) for place in range(len(drifted.steps))],
        "too_weak": [row.registered.ref.version for row in drifted.too_weak],
    }


def _step_json(drifted: ModelDrift, place: int, thresholds: ThresholdSettings) -> dict[str, Any]:
    step = drifted.steps[place]
    direction = drifted.directions.get(place)
    return {
        "version": drifted.versions[place + 1].registered.ref.version,
        "break": step.broken,
        "from_previous": _move_json(drifted, step.previous, thresholds),
        "from_first": _move_json(drifted, step.first, thresholds),
        "from_alias": _move_json(drifted, step.alias, thresholds),
        "is_drift": step.is_drift,
        "change": step.change,
        "back_to": None if step.back_to is None else drifted.versions[step.back_to].registered.ref.version,
        "moved": step.in_words,
        "since": None if step.reference is None else drifted.versions[step.reference].registered.ref.version,
        "direction": direction
        and {
            "cluster_before": _nearest_json(direction.cluster_before),
            "cluster_after": _nearest_json(direction.cluster_after),
            "differences": [asdict(one) for one in direction.differences],
            "words": direction.words and asdict(direction.words),
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
