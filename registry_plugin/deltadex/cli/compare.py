"""The command `compare`: any two versions, differences first."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, parse_label
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.comparison.compare_two import Closeness, TwoVersions, compare_two
from deltadex.types import Words
from deltadex.versions.labels import known_version

console = Console(highlight=False)

_SHOWN = 10
_Label = Annotated[str, typer.Argument(metavar="NAME/VERSION", show_default=False)]


def compare(
    one: _Label, other: _Label, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Compare any two versions: what differs, how similar they are and what that means, and their words."""
    labels = [parse_label(each) for each in (one, other)]
    with reading(data_dir, database_url) as (tx, viewer, settings):
        rows = [known_version(tx, viewer, settings.registry, *label) for label in labels]
        found = compare_two(tx, viewer, settings, rows[0].id, rows[1].id)
    assert found is not None  # noqa: S101 - both versions are known to the viewer
    if json:
        print_json(_as_json(found))
    else:
        _show(found)


def _show(found: TwoVersions) -> None:
    labels = [plain(row.label) for row in found.rows]
    caption = f"{len(found.equal)} facts are equal. {found.note}".strip()
    # Folded: a table at 80 columns must not cut the value that differs.
    columns = [Column(each, overflow="fold") for each in ("fact", *labels)]
    table = Table(*columns, title="What differs", caption=plain(caption))
    for _, one in found.differences:
        table.add_row(plain(one.name), plain(one.before or ""), plain(one.after or ""))
    console.print(table)
    if found.closeness:
        console.print(f"Similarity {found.closeness.similarity:.3f}. {plain(found.closeness.meaning)}")
    else:
        console.print(f"No similarity. {plain(found.obstacle)}")
    for label, words in zip(labels, found.words, strict=True):
        console.print(f"[bold]{label}[/] {_words(words)}")


def _words(words: Words | None) -> str:
    if words is None or words.note:
        return f"[dim]no words{plain(f', {words.note}' if words else '')}[/]"
    listed = (", ".join(plain(word.text) for word in each[:_SHOWN]) for each in (words.promoted, words.demoted))
    return "promotes {}; demotes {}".format(*(each or "nothing" for each in listed))


def _as_json(found: TwoVersions) -> dict[str, Any]:
    one, other = found.rows
    return {
        "versions": [version_json(one), version_json(other)],
        "differences": [{"part": part, **asdict(each)} for part, each in found.differences],
        "equal": dict(found.equal),
        "comparison": found.closeness and _closeness_json(found.closeness),
        "no_comparison": found.obstacle or None,
        "words": [words and asdict(words) for words in found.words],
        "note": found.note or None,
    }


def _closeness_json(found: Closeness) -> dict[str, Any]:
    move = found.compared.move
    return {
        "recipe": found.recipe.digest,
        "similarity": found.similarity,
        "noise": move.noise,
        "strengths": list(found.compared.strengths),
        "probe_distances": None if move.probe_distances is None else list(move.probe_distances),
        "meaning": found.meaning,
    }
