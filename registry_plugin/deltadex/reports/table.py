"""Tables and reports, and their output as HTML and CSV. Pure functions."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

#: Spreadsheets run text with these prefixes as a formula (OWASP, CSV injection), and names are untrusted text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | int | float | bool | datetime | None


@dataclass(frozen=True)
class Table:
    """A table that people read and export.

    Attributes
    ----------
    name
        Its name for `--table`, and its anchor in the page.
    note
        A sentence that explains it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the table as CSV. It depends only on the contents, not on the time of the report."""
        return hashlib.sha256(as_csv(self.columns, self.rows).encode()).hexdigest()


@dataclass(frozen=True)
class Report:
    """The report on one registry at one time; `tables` in the order of the page."""

    registry: str
    made_at: datetime
    tables: tuple[Table, ...]


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return rows as CSV (RFC 4180) with a header; text that a spreadsheet would run gets a leading quote."""
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow(columns)
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return output.getvalue()


def as_html(report: Report) -> str:
    """Return a self-contained HTML page that can be read offline and printed."""
    return _template().render(report=report, made_at=formatted(report.made_at), formatted=formatted)


def formatted(cell: Cell) -> str:
    """Return a cell for people: four significant digits, thousands separators, times in UTC to the minute."""
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
        loader=PackageLoader("deltadex.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["numeric"] = lambda cell: isinstance(cell, int | float) and not isinstance(cell, bool)
    return environment.get_template("report.html.jinja")
