"""The page about an embedding, as a Markdown viewer shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from markdown_it import MarkdownIt

from deltadex.embeddings.summary import summary
from deltadex.settings import Settings
from deltadex.types import Word, Words
from tests.stored import embedding, registered

NAME = "a|b <img src=x> [click](https://evil.example) `x`"
VALUE = embedding(np.array([3.0, 4.0]))


def html(*, link: str | None = None, words: Words | None = None, base_name: str = "acme/base") -> str:
    page = summary(registered(NAME), replace(VALUE, words=words), base_name=base_name, link=link)
    return MarkdownIt("commonmark").enable("table").render(page)


def test_it_names_strength_agreement_base_and_recipe() -> None:
    shown = html()
    for expected in ("0.500 of the norm", "1.000 (1 if all probes agree)", "acme/base", VALUE.recipe.digest[:12]):
        assert expected in shown
    assert shown.count("<tr>") == 6


def test_its_only_link_leads_to_the_dashboard() -> None:
    settings = Settings(dashboard_url="https://deltadex.example/")
    link = settings.version_link(NAME, 1)
    shown = html(link=link, base_name="x](https://evil.example) <a href=y> | z")
    assert shown.count("<a ") == 1
    assert '<a href="https://deltadex.example/model?model=a%7Cb' in shown
    assert "<img" not in shown
    assert "<a " not in html()


def test_tokens_are_shown_as_they_are() -> None:
    said = Words((Word(" SELECT", 3.0), Word("`|<b>", 2.0)), (Word("the", -3.0),), among=4)
    shown = html(words=said)
    assert "<code>`|&lt;b&gt;</code>" in shown
    assert "Demoted tokens: <code>the</code>. Measured beside the mean of 4 models of its base." in shown
    assert "No tokens: the base has no output head" in html(words=Words(note="the base has no output head"))
