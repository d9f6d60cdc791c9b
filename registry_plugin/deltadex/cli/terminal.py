"""Untrusted text in the terminal: it is shown as it is, neither as markup nor as control characters."""

from __future__ import annotations

import logging
from typing import Any

from deltadex.escaping import printable

#: An empty span. rich reads neither a tag, an escape nor an emoji code such as `:smile:` across it.
#: `rich.markup.escape` can't do this: whether a bracket or backslash is markup depends on the text around it.
_BREAK = "[none][/none]"
_MARKUP = str.maketrans({"[": r"\[", "\\": rf"\\{_BREAK}", ":": f"{_BREAK}:{_BREAK}"})


def plain(text: object, *, multiline: bool = False) -> str:
    """Return markup that shows `printable` text inside any other markup: the escaper of all untrusted text."""
    return printable(str(text), multiline=multiline).translate(_MARKUP)


class PrintableFormatter(logging.Formatter):
    """Formatter of log records that name models: one line each, besides tracebacks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: D102
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: D102
        return printable(super().formatException(ei), multiline=True)
