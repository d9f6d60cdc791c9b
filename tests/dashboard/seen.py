"""Texts, links and numbers of a page."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def text(page: AppTest) -> str:
    """Return the text of a page, links included, without Markdown's backslashes."""
    written = [*page.title, *page.subheader, *page.markdown, *page.caption, *page.error, *page.warning, *page.info]
    links = [link.proto.label for link in page.get("page_link")]
    return "\n".join([*(element.value for element in written), *links]).replace("\\", "")


def links(page: AppTest) -> list[str]:
    """Return the queries of the links that have one: those to other pages of the same place have none."""
    return [link.proto.query_string for link in page.get("page_link") if link.proto.query_string]


def numbers(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}
