"""Style of the HTML pages of the library: contrast after WCAG 2.2 (1.4.3 for text, 1.4.11 for fields), and focus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import deltadex

[LIBRARY] = map(Path, deltadex.__path__)
PAGES = {path.name: path.read_text() for path in LIBRARY.rglob("*.jinja") if "<style>" in path.read_text()}
PALETTE = re.compile(r":root \{(.*?)\}")
#: Least contrast with the ground; the other colours only draw lines.
LEAST = {"text": 4.5, "quiet": 4.5, "accent": 4.5, "field": 3.0}


def contrast(color: str, other: str) -> float:
    darker, lighter = sorted((luminance(color), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    channels = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    linear = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_ratio_is_that_of_wcag() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)
    assert set(PAGES) == {"layout.html.jinja", "report.html.jinja"}


@pytest.mark.parametrize("page", PAGES)
def test_colours_stand_out_from_the_ground_in_both_themes(page: str) -> None:
    palettes = [dict(re.findall(r"--(\w+): (#\w+)", found)) for found in PALETTE.findall(PAGES[page])]
    ratios = {
        (name, color): contrast(color, palette["ground"])
        for palette in palettes
        for name, color in palette.items()
        if name in LEAST
    }
    assert len(palettes) >= 2
    assert {key: ratio for key, ratio in ratios.items() if ratio < LEAST[key[0]]} == {}


@pytest.mark.parametrize("page", PAGES)
def test_all_colours_are_of_a_palette_and_focus_has_a_ring(page: str) -> None:
    style = PALETTE.sub("", PAGES[page].partition("</style>")[0])
    assert re.findall(r"#[0-9a-f]{3,8}\b", style) == []
    assert ":focus-visible { outline: 3px solid var(--accent)" in style
