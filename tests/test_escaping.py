"""Hostile names in each output: they are shown as they are. (The terminal: `cli/test_escaping.py`.)"""

from __future__ import annotations

import html
import re
import unicodedata

import apprise
import numpy as np
import pytest
from apprise.conversion import convert_between
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from psycopg.types.json import Jsonb

from deltadex.escaping import figure_text, markdown, markdown_code, markdown_file, markdown_hint, message_text
from deltadex.findings.kinds import Severity
from deltadex.notifications.message import Notice, message
from deltadex.store.database import Database
from deltadex.types import FindingKind
from deltadex_dashboard.charts.colors import CATEGORIES
from deltadex_dashboard.charts.map import MapPoint, map_figure

HOSTILE = [
    "[click](http://evil.example)",
    "![x](http://evil.example/x.png)",
    "<img src=x onerror=alert(1)>",
    "<a href='http://evil.example'>x</a>",
    "&lt;b&gt; &amp; &#91;",
    "$x$ $$y$$",
    ":red[x] :material/home: :smile: :blue-badge[ok]",
    "`code` ``more`` `",
    "a\n\n# heading\n\n    code\n\n---\n===",
    "x | y\n|---|---|\n",
    "**bold** __bold__ ~~gone~~ *it*",
    "> quote\r- item\u2028+ item",
    "\\*not\\* \\",
    "http://evil.example www.evil.example",
    "@everyone <!channel> <http://evil.example|click>",
    "%{customdata} %%{x} {x}",
    "\x1b[31m\x07\x00\u202eevil",
    "`",
    "",
]
BREAK = "\N{WORD JOINER}"
LOOKALIKES = str.maketrans("\u2217\u02cb\u223c\u02cd", "*`~_")
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def seen(text: str) -> str:
    """Return what a reader sees: control characters are replaced, and word joiners invisible."""
    controls = ("Cc", "Cs", "Zl", "Zp")
    text = "".join("\ufffd" if unicodedata.category(one) in controls or one == "\u202e" else one for one in text)
    return text.replace(BREAK, "").translate(LOOKALIKES)


def one_line(text: str) -> str:
    return seen(re.sub(r"\s+", " ", text))


def shown(source: str) -> str:
    """Return the HTML of one paragraph of Markdown."""
    rendered = PARSER.render(source)
    assert rendered.startswith("<p>")
    assert rendered.endswith("</p>\n")
    return html.unescape(rendered[3:-5])


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_text(text: str) -> None:
    assert seen(shown(f"x {markdown(text)} x")) == f"x {one_line(text)} x"
    assert seen(shown(f"**x{markdown(text)}x**")) == f"<strong>x{one_line(text)}x</strong>"
    row = PARSER.render(f"| fact | value |\n|---|---|\n| x | x{markdown(text)}x |")
    assert row.count("<td>") == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_leaves_nothing_to_what_acts_after_the_parser(text: str) -> None:
    """Streamlit and Prefect link addresses, and Streamlit replaces emoji and icons, in text that was parsed."""
    rendered = html.unescape(PARSER.render(f"x{markdown(text)}x"))
    assert not re.search(r"https?://|www\.|:(material/)?[\w+-]+:", rendered)


@pytest.mark.parametrize(
    "text", [*HOSTILE, "- item", " 1. item", "2) item", "# h", "> q", "===", "a__b__ __c__", "_a_b_ &amp;"]
)
def test_files_show_text(text: str) -> None:
    assert seen(shown(f"x {markdown_file(text)} x")) == f"x {one_line(text)} x"
    assert seen(shown(markdown_file(text) or "x")) == (one_line(text).strip() or "x")
    row = PARSER.render(f"| fact | value |\n|---|---|\n| x | x{markdown_file(text)}x |")
    assert row.count("<td>") == 2
    assert not re.search(r"https?://|www\.|:[\w+-]*[a-z][\w+-]*:", html.unescape(row))


@pytest.mark.parametrize(
    "text",
    ["apache-2.0", "2026-11-30 08:36:01 UTC", "s3://models/sql_writer/v1.2", "ada (https#8231)", "812:5fe1", "R&D!"],
)
def test_files_show_plain_text_without_escapes(text: str) -> None:
    assert markdown_file(text) == text


@given(st.text())
def test_files_show_any_text(text: str) -> None:
    for around in ("x", ""):
        rendered = PARSER.render(f"{around}{markdown_file(text)}{around}")
        assert "<" not in re.sub("&lt;", "", rendered.removeprefix("<p>").removesuffix("</p>\n"))


@given(st.text())
def test_markdown_shows_any_text(text: str) -> None:
    assert "<" not in re.sub("&lt;", "", PARSER.render(f"x{markdown(text)}x")[3:-5])


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_code_shows_text(text: str) -> None:
    assert seen(shown(f"x {markdown_code(text)} x")) == f"x <code>{one_line(text)}</code> x"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hint_keeps_its_commands_and_nothing_else(text: str) -> None:
    assert (
        shown(markdown_hint("Run `deltadex retry x`, then *wait*."))
        == "Run <code>deltadex retry x</code>, then *wait*."
    )
    tags = set(re.findall(r"<[^>]*>", PARSER.render(markdown_hint(f"Run `deltadex` for {text} again."))))
    assert tags <= {"<p>", "</p>", "<code>", "</code>"}


_DOTS = {f'<span style="color:{color}">' for color in CATEGORIES}


@pytest.mark.parametrize("text", HOSTILE)
def test_figures_show_text(text: str) -> None:
    escaped = figure_text(text)
    assert not re.search(r"<|%\{|&(?!lt;|gt;|amp;|#37;)", escaped)
    assert html.unescape(escaped) == seen(text)
    points = [MapPoint(number, f"{text}/{number}", text or None) for number in range(3)]
    figure = map_figure(points, np.eye(3, 2))
    for trace in figure.data:
        texts = [trace.name or "", *(trace.hovertext if trace.hovertext is not None else [])]
        assert set(re.findall(r"<[^>]*>?", "".join(texts))) <= {"<b>", "</b>", "<br>"}, "the card's own tags only"
        template = (trace.hovertemplate or "").replace("%{hovertext}", "").replace("%{text}", "")
        assert trace.hovertext is not None or not re.search("[<&]", "".join(trace.text or ()))
        assert set(re.findall(r"<[^>]*>|%\{[^}]*\}", template)) <= {"<b>", "</b>", "<br>", "<extra>", "</extra>"}
    for annotation in figure.layout.annotations:
        # A group's name has a dot in the colour of its points.
        assert re.findall(r"<[^>]*>", annotation.text)[-2:] == ["<b>", "</b>"]
        assert set(re.findall(r"<[^>]*>", annotation.text)) <= {"<b>", "</b>", "</span>", *_DOTS}
    assert [trace.text[0] for trace in figure.data if trace.text is not None] == [f"{text}/0"], "a selection names it"


@pytest.mark.parametrize("text", HOSTILE)
def test_messages_show_text_in_every_service(text: str) -> None:
    notice = Notice("opened", 1, FindingKind.DRIFT, Severity.HIGH, ((text, 2),))
    body = message([notice], link=None).body
    assert seen(text) in seen(body)
    assert len(body.splitlines()) == 1
    assert not re.search(r"https?://|www\.|@\w|<[!@#h]|\]\(", body)
    page = convert_between(apprise.NotifyFormat.TEXT, apprise.NotifyFormat.HTML, body)
    assert set(re.findall(r"<[^>]*>", page)) <= {"<br>", "<br/>", "<br />"}
    assert not re.search(r"<(a|img|em|strong|code|h\d|blockquote|ul)\b", PARSER.render(f"x {message_text(text)} x"))


def test_json_keeps_all_but_what_postgres_cannot_store(database: Database) -> None:
    for text, kept in (
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"), ("\ud800", "?"),
        ("\\u0000 and \\\0", "\\u0000 and \\\N{REPLACEMENT CHARACTER}"),
        ("🦙 \\ \" \n", "🦙 \\ \" \n"),
    ):  # fmt: skip
        with database.transaction() as tx:
            assert tx.execute("select %s::jsonb ->> 'said'", [Jsonb({"said": text})]).fetchone() == (kept,)
