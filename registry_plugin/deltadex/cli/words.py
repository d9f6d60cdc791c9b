"""`words`: what an embedding says through its base's own output head."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice, zip_longest

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label
from deltadex.cli.reading import known_version, print_json, reading, version_json
from deltadex.domain import Word, Words
from deltadex.store import words as stored

_SHOWN = 10


def words(label: VersionLabel, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show the tokens that a version promotes and demotes where an answer begins, in standard deviations."""
    with reading(data_dir, database_url) as (tx, settings):
        row = known_version(tx, settings, *parse_label(label))
        said = stored.of_version(tx, row.id)
    if json:
        spaces = [
            {
                "recipe": one.recipe.digest,
                "base": one.recipe.base_name,
                "too_weak": one.is_weak,
                "words": one.words and asdict(one.words),
            }
            for one in said
        ]
        print_json({**version_json(row), "embeddings": spaces})
        return
    console = Console(highlight=False)
    if not said:
        console.print(f"[dim]{row.label} is {row.state}: there are words once it is embedded.[/]")
    for one in said:
        title = f"base {one.recipe.base_name}"
        if one.words is None or one.words.note:
            why = "Nobody asked: `deltadex retry` embeds it again." if one.words is None else one.words.note
            console.print(f"[dim]{title}: {escape(why)}[/]")
        else:
            caption = "Too weak to place: little more than noise." if one.is_weak else None
            console.print(_table(one.words, title=title, caption=caption))


def _table(said: Words, *, title: str, caption: str | None) -> Table:
    table = Table("promoted", "", "demoted", "", title=title, caption=caption)
    for promoted, demoted in islice(zip_longest(said.promoted, said.demoted), _SHOWN):
        table.add_row(*_cells(promoted), *_cells(demoted))
    return table


def _cells(word: Word | None) -> tuple[str, str]:
    return (escape(word.text), f"{word.score:+.1f}") if word else ("", "")
