"""The command `words`: the tokens that a version promotes and demotes."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice, zip_longest

from rich.console import Console
from rich.table import Table

from deltadex.cli.options import DatabaseUrl, DataDir, Json, VersionLabel, parse_label
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.embeddings import promoted_tokens
from deltadex.types import Word, Words
from deltadex.versions.labels import known_version

_SHOWN = 10


def words(label: VersionLabel, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show the tokens that a version promotes and demotes as it goes on, in standard deviations."""
    with reading(data_dir, database_url) as (tx, viewer, settings):
        row = known_version(tx, viewer, settings.registry, *parse_label(label))
        embeddings = promoted_tokens.of_version(tx, viewer, row.id)
    if json:
        values = [
            {
                "recipe": one.recipe.digest,
                "base": one.recipe.base_name,
                "too_weak": one.is_weak,
                "words": one.words and asdict(one.words),
            }
            for one in embeddings
        ]
        print_json({**version_json(row), "embeddings": values})
        return
    console = Console(highlight=False)
    if not embeddings:
        console.print(f"[dim]{plain(row.label)} is {row.state}: it has words once it is embedded.[/]")
    for one in embeddings:
        title = f"base {plain(one.recipe.base_name)}"
        if one.words is None or one.words.note:
            note = "Not computed: `deltadex retry` embeds it again." if one.words is None else one.words.note
            console.print(f"[dim]{title}: {plain(note)}[/]")
        else:
            caption = "Too weak to place: little more than noise." if one.is_weak else f"{one.words.beside}."
            console.print(_table(one.words, title=title, caption=caption))


def _table(words: Words, *, title: str, caption: str | None) -> Table:
    table = Table("promoted", "", "demoted", "", title=title, caption=caption)
    for promoted, demoted in islice(zip_longest(words.promoted, words.demoted), _SHOWN):
        table.add_row(*_cells(promoted), *_cells(demoted))
    return table


def _cells(word: Word | None) -> tuple[str, str]:
    return (plain(word.text), f"{word.score:+.1f}") if word else ("", "")
