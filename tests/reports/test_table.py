"""The governance report as HTML and CSV."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from deltadex.reports.table import Cell, Report, Table, as_csv, as_html, formatted

MADE = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


class Parsed(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def report(*rows: tuple[Cell, ...]) -> Report:
    table = Table("findings", "Findings", ("version", "measure"), rows, note="How to read it.")
    return Report("acme", MADE, (table,))


def test_the_page_shows_every_row_and_is_self_contained() -> None:
    page = as_html(report(("support/1", 0.98765), ("legal/2", None)))
    for expected in ("acme", "2026-11-21 09:30 UTC", "How to read it.", "support/1", "0.9877", "legal/2", "–"):
        assert expected in Parsed(page).text
    links = {
        value for _, attributes in Parsed(page).tags for name, value in attributes.items() if name in ("href", "src")
    }
    assert links == {"#findings"}
    assert not re.search(r"https?:|@import|url\(", page)


def test_names_from_other_people_stay_text() -> None:
    page = as_html(report(("<script>alert(1)</script>", 1)))
    assert "script" not in [tag for tag, _ in Parsed(page).tags]
    assert "<script>alert(1)</script>" in Parsed(page).text


def test_an_empty_table_says_so() -> None:
    assert "None." in Parsed(as_html(report())).text


def test_csv_can_be_read_back_whatever_the_names() -> None:
    rows = [('a,b\n"c"', 0.1234567890123), ("ü", None)]
    read = list(csv.reader(io.StringIO(as_csv(("version", "measure"), rows))))
    assert read == [["version", "measure"], ['a,b\n"c"', "0.1234567890123"], ["ü", ""]]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_spreadsheet_runs_a_name(name: str) -> None:
    [_, [cell]] = csv.reader(io.StringIO(as_csv(("name",), [(name,)])))
    assert cell == f"'{name}"


def test_negative_numbers_stay_numbers() -> None:
    assert as_csv(("measure",), [(-0.5,)]) == "measure\r\n-0.5\r\n"


def test_equal_tables_have_equal_digests_and_changed_ones_another() -> None:
    [one], [same], [other] = (report((("a/1"), value)).tables for value in (1, 1, 2))
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(
    ("cell", "text"), [(12_345, "12,345"), (0.000012345, "1.234e-05"), (True, "yes"), (MADE, "2026-11-21 09:30 UTC")]
)
def test_cells_are_written_for_people(cell: Cell, text: str) -> None:
    assert formatted(cell) == text
