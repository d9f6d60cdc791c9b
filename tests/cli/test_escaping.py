"""Text of registries and checkpoints in the terminal: markup and control characters are shown, never acted on."""

from __future__ import annotations

import io
import logging
import sys
import unicodedata
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from deltadex import cli
from deltadex.cli.terminal import PrintableFormatter, plain
from deltadex.errors import DeltadexError
from deltadex.escaping import printable
from deltadex.reviews import actions as reviews
from deltadex.setting_groups import DatabaseSettings
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.stored import ADMIN, REGISTRY
from tests.strangers import Strangers, fill

HOSTILE = (
    "[/x]", "[red]x[/red]", "[link=https://evil.example]", "\x1b[31mred\x1b[0m", "\x9b31m", "\u202eabc", "a\nb", "[",
    "]", "\\", ":smile:",
)  # fmt: skip
ALL = "".join(HOSTILE)

#: Any text, with what rich may read as markup more often than by chance.
TEXTS = st.text() | st.text(st.sampled_from("[]/\\:=@#a\x1b\u202e\ud800 ")) | st.sampled_from(HOSTILE)

_EXPLICIT_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_acted_on(character: str) -> bool:
    """Return whether a terminal acts on a character, by its properties in Unicode."""
    is_control = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
    return is_control or unicodedata.bidirectional(character) in _EXPLICIT_DIRECTIONS


def acted_on(output: str) -> list[str]:
    return [character for character in output if character != "\n" and is_acted_on(character)]


@dataclass
class HostileStrangers(Strangers):
    """Models whose every text starts with something that a terminal or rich may act on."""

    def __post_init__(self) -> None:
        self._starts = cycle(HOSTILE)

    def word(self) -> str:
        return next(self._starts) + super().word()


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep names in one line; a console that was made with COLUMNS set keeps that width."""
    for module in [module for name, module in sys.modules.items() if name.startswith("deltadex.cli.")]:
        if hasattr(module, "console"):
            monkeypatch.setattr(module.console, "_width", 3000)


@pytest.mark.usefixtures("wide")
def test_commands_show_hostile_texts_and_act_on_none(database: Database, tmp_path: Path) -> None:
    settings = Settings(registry=REGISTRY, database=DatabaseSettings(url=database.url))
    made = fill(database, settings, HostileStrangers())
    with database.transaction() as tx:
        tx.execute("update recipes set base_name = %s", [ALL])
        findings = [str(row.id) for row in reviews.listing(tx, ADMIN, settings)]
        [trouble] = tx.execute("select reason, hint from model_versions where state = 'failed'").fetchall()
    variables = {
        "DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": REGISTRY, "DELTADEX_DATA_DIR": str(tmp_path),
        "COLUMNS": "3000",
    }  # fmt: skip
    member, second, *_, failed = made.ids
    shown = [
        *((["status"], text) for text in [*made.ids, *trouble]),
        *((["models", "--order", "name"], text) for text in made.ids),
        (["models", "--team", ALL, "--domain", ALL], "No version has the team or owner"),
        (["duplicates"], ALL),
        (["duplicates", "--threshold", "0.5"], member),
        (["duplicates", "--recompute"], ALL),
        (["clusters"], member),
        (["clusters", "rename", "1", ALL], ALL),
        (["clusters"], ALL),
        (["geometry"], ALL),
        (["review", "list", "--status", "open", "--status", "dismissed"], failed),
        (["review", "assign", findings[0], "--to", ALL], ALL),
        (["review", "list", "--status", "in_review"], ALL),
        (["review", "log"], ALL),
        (["news"], "Begin with finding"),
        (["report", "-o", str(tmp_path / "[red]report.csv")], "[red]report.csv"),
        *((["review", "show", each], "finding") for each in findings[:3]),
        (["replay", f"{member}/1", f"{second}/1"], second),
        *((["taught", f"{name}/1", "--reveal"], name) for name in [*made.ids][:-1]),
        (["own", member], "risk tier"),
        (["inventory"], member),
    ]
    for name in made.ids:
        label = f"{name}/1"
        shown += [(["compare", label, f"{member}/1"], name), (["lineage", label], "relation")]
        shown += [(["status", label], name), (["drift", name], name), (["explain", label], name)]
        shown += [
            (["neighbors", label, "-k", "50"], "similarity"),
            (["words", label], "+4.0" if name != failed else name),
        ]
    for command, text in shown:
        done = CliRunner().invoke(cli.app, command, env=variables, catch_exceptions=False)
        assert done.exit_code == 0, command
        assert not acted_on(done.output), command
        assert printable(text) in done.output, command


def printed(markup: str | Table) -> str:
    console = Console(file=io.StringIO(), width=10_000, highlight=False)
    console.print(markup, soft_wrap=True)
    return console.file.getvalue()  # type: ignore[attr-defined]


@given(TEXTS, TEXTS)
def test_any_text_is_shown_as_it_is_inside_any_markup(one: str, other: str) -> None:
    expected = "".join("\N{REPLACEMENT CHARACTER}" if is_acted_on(each) else each for each in one + other)
    assert printed(f"[bold]{plain(one)}[/]{plain(other)}: x") == f"{expected}: x\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_titles_captions_headers_and_cells_show_text_as_it_is(text: str) -> None:
    table = Table(plain(text), title=plain(text), caption=plain(text))
    table.add_row(plain(text))
    assert printed(table).count(printable(text)) == 4


def test_line_feeds_stay_only_where_lines_are_meant() -> None:
    assert printed(plain("a\nb\x1b")) == "a\ufffdb\ufffd\n"
    assert printed(plain("a\nb\x1b", multiline=True)) == "a\nb\ufffd\n"


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_stated_error_shows_its_message_and_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], debug: list[str]
) -> None:
    def fail(_: list[str]) -> None:
        raise DeltadexError(f"message {ALL}", hint=f"hint {ALL}")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["deltadex", "status", *debug])
    monkeypatch.setenv("COLUMNS", "3000")
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    said = capsys.readouterr().err
    assert f"Error: message {printable(ALL, multiline=True)}\nHint: hint {printable(ALL)}\n" in said
    assert not acted_on(said)
    assert ("Traceback" in said) == bool(debug)


def test_a_log_record_is_one_line_besides_its_traceback() -> None:
    try:
        raise DeltadexError(ALL)
    except DeltadexError:
        record = logging.LogRecord("deltadex", logging.WARNING, "", 0, "version=%s", (ALL,), sys.exc_info())
    line, *traceback = PrintableFormatter("%(message)s").format(record).split("\n")
    assert line == f"version={printable(ALL)}"
    assert traceback[0].startswith("Traceback")
    assert not acted_on("".join(traceback))
