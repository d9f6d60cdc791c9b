"""Names in the documents exist: in the picture, in the layers, and paths in CONTRIBUTING."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SVG = "{http://www.w3.org/2000/svg}"


def names_in_the_picture() -> list[str]:
    picture = ElementTree.parse(ROOT / "docs" / "architecture.svg")  # noqa: S314
    return [text.text or "" for text in picture.iter(f"{_SVG}text") if text.get("class") == "name"]


def names_in_the_page() -> list[str]:
    page = (ROOT / "docs" / "architecture.md").read_text()
    return re.findall(r"`(deltadex[a-z_]*(?:\.\w+)*)`", page)


@pytest.mark.parametrize("name", sorted({*names_in_the_picture(), *names_in_the_page()}))
def test_each_name_of_the_architecture_is_in_the_code(name: str) -> None:
    parent, _, last = name.rpartition(".")
    assert is_module(name) or hasattr(import_module(parent), last)


def is_module(name: str) -> bool:
    """Tell without importing it, which would run the dashboard."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


def test_the_picture_shows_a_path() -> None:
    assert len(names_in_the_picture()) > 15


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md", "SECURITY.md"])
def test_paths_and_links_of_a_document_are_there(document: str) -> None:
    text = (ROOT / document).read_text()
    paths = re.findall(r"`((?:deltadex|tests|dashboard|docs|deploy)/[\w/.]+)`", text)
    links = re.findall(r"\]\(([\w/.]+)\)", text)
    places = (ROOT, ROOT / "registry_plugin")
    missing = [path for path in (*paths, *links) if not any((place / path).exists() for place in places)]
    assert missing == []
