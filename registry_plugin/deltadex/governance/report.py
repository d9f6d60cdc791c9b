"""The governance report: tables of what is there, what was found and what was decided, as HTML or CSV. Pure."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

#: What a spreadsheet would take for a formula (OWASP, CSV injection): names come from other people.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | int | float | bool | datetime | None


@dataclass(frozen=True)
class Table:
    """A table to read and to export.

    Attributes
    ----------
    name
        What `--table` calls it, and its anchor in the page.
    note
        A sentence on how to read it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the table as CSV: equal for equal contents, whenever the report is made."""
        return hashlib.sha256(as_csv(self.columns, self.rows).encode()).hexdigest()


@dataclass(frozen=True)
class Report:
    """One registry at one moment; `tables` in the order in which they are read."""

    registry: str
    made_at: datetime
    tables: tuple[Table, ...]


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return rows as CSV (RFC 4180) below their names; a text that a spreadsheet would run gets a quote before it."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(columns)
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return written.getvalue()


def as_html(report: Report) -> str:
    """Return one HTML file that asks for nothing else, to be read offline or printed."""
    return _template().render(report=report, made_at=shown(report.made_at), shown=shown)


def shown(cell: Cell) -> str:
    """Return a cell as people read it: four significant digits, thousands apart, times in UTC to the minute."""
    match cell:
        case None:
            return "–"
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return f"{cell.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        case float():
            return f"{cell:.4g}"
        case int():
            return f"{cell:,}"
        case _:
            return cell


def _csv_cell(cell: Cell) -> Cell:
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat()
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("deltadex.governance", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["numeric"] = lambda cell: isinstance(cell, int | float) and not isinstance(cell, bool)
    return environment.get_template("report.html.jinja")
