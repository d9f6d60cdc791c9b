"""Escapers of untrusted text, one for each output: names, tags and reasons are shown as they are, never as markup.

The terminal's is `cli.terminal.plain`, HTML is escaped by Jinja, CSV by `reports.table`.
"""

from __future__ import annotations

import json
import re
from html import escape
from itertools import chain

#: Control characters (C0, DEL, C1), line separators and explicit bidirectional formatting (Unicode, annex 9), and
#: surrogates, which nothing can be sent.
_UNPRINTABLE = chain(
    range(0x20), range(0x7F, 0xA0), range(0x2028, 0x202F), range(0x2066, 0x206A), range(0xD800, 0xE000)
)
#: NUL in JSON, behind an even number of backslashes.
_JSON_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
#: Printable by the rules above, but no characters of XML 1.0.
_NO_XML = dict.fromkeys((0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}")
_REPLACEMENTS = dict.fromkeys(_UNPRINTABLE, "\N{REPLACEMENT CHARACTER}")
#: Invisible, and no line may break there. It stops what backslashes do not: addresses become links, `:smile:` an emoji
#: and `:material/home:` an icon after Markdown is parsed, and messages have no escapes at all.
_BREAK = "\N{WORD JOINER}"
_ADDRESS = r":(?=//)|\bwww(?=\.)"
_AFTER_PARSING = re.compile(rf"{_ADDRESS}|:(?=(material/)?[\w+-]+:)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-!|~<>$:.&])")
#: For files that people also read as text: only what acts where it stands, so that names, times and places stay plain.
_ACTING = re.compile(r"[\\`*\[\]|~<$^{}]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|^\s?(?:[-+#>=]|\d+(?=[.)](?:\s|$)))")
_LINKED_OR_EMOJI = re.compile(r"(?i:\b(?:https?|ftp):)(?=//)|(?i:\bwww)(?=\.)|:(?=[\w+-]*[^\W\d][\w+-]*:)")
_IN_MESSAGES = re.compile(rf"[<>\[\]@&#]|{_ADDRESS}")
#: Characters that act in pairs whatever is between them, and characters that look like them.
_PAIRED = {"*": "\N{ASTERISK OPERATOR}", "`": "\N{MODIFIER LETTER GRAVE ACCENT}", "~": "\N{TILDE OPERATOR}"}
_PAIR = re.compile(r"[*`~]|(?<!\w)_|_(?!\w)")


def printable(text: str, *, multiline: bool = False) -> str:
    """Return text with a replacement character for each control character; `multiline` keeps line feeds."""
    if multiline:
        return "\n".join(map(printable, text.split("\n")))
    return text.translate(_REPLACEMENTS)


def markdown(text: str) -> str:
    """Return Markdown that shows text, in one line: for Streamlit and for Prefect's artifacts."""
    return _MARKDOWN.sub(r"\\\1", _AFTER_PARSING.sub(rf"\g<0>{_BREAK}", _one_line(text)))


def markdown_file(text: str) -> str:
    """Return Markdown that shows text, in one line: for files, which are also read without a renderer."""
    return _LINKED_OR_EMOJI.sub(rf"\g<0>{_BREAK}", _ACTING.sub(_escaped, _one_line(text)))


def _escaped(found: re.Match[str]) -> str:
    """Return a character after a backslash, but the number of a list's item before one, which acts by what follows."""
    acts = found[0]
    if acts == "<":
        return "&lt;"  # Not every renderer takes a backslash here.
    return f"{acts}\\" if acts[-1].isdigit() else f"{acts[:-1]}\\{acts[-1]}"


def markdown_code(text: str) -> str:
    """Return Markdown for a span of code with any text, such as a command with a model's name."""
    line = _one_line(text)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    # Spaces inside keep backticks of the text away from the fence; one on each side is not shown.
    space = " " if longest or line != line.strip() else ""
    return f"{fence}{space}{line}{space}{fence}"


def markdown_hint(text: str) -> str:
    """Return Markdown for a hint: text of our own with commands in backticks, in which untrusted names may stand."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its pair
        return markdown(text)
    return "".join((markdown_code(part) if part else "") if at % 2 else markdown(part) for at, part in enumerate(parts))


def figure_text(text: str) -> str:
    """Return text for a figure of Plotly, which reads a part of HTML, and `%{…}` in templates."""
    return escape(printable(text), quote=False).replace("%{", "&#37;{")


def message_text(text: str) -> str:
    """Return text for a message. Each service has its own markup and mentions, without a way to escape all of them."""
    unpaired = _PAIR.sub(lambda found: _PAIRED.get(found[0], "\N{MODIFIER LETTER LOW MACRON}"), printable(text))
    return _IN_MESSAGES.sub(rf"\g<0>{_BREAK}", unpaired)


def sarif_text(text: str) -> str:
    """Return plain text for a message of SARIF 2.1.0, which reads `[links](…)` and `{0}` in it (3.11.5 and 3.11.6)."""
    escaped = _one_line(text).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    return escaped.replace("{", "{{").replace("}", "}}")


def xml_text(text: str, *, multiline: bool = False) -> str:
    """Return text of characters that XML 1.0 can hold; the writer of the document escapes its markup."""
    return printable(text, multiline=multiline).translate(_NO_XML)


def _one_line(text: str) -> str:
    return printable(re.sub(r"\s+", " ", text))


def storable_json(value: object) -> str:
    """Return JSON that Postgres can store, with the characters replaced that it can't, as `storable` does."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    return _JSON_NUL.sub(r"\1\\ufffd", text)


def storable(text: str) -> str:
    """Replace characters that Postgres can't store, so that one odd description never stops a batch."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
