"""Templates of a pack's documents, with the escaper of each output."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from deltadex.escaping import markdown_file, printable, xml_text


@cache
def templates(*, is_markup: bool) -> Environment:
    """Return the environment of SVG (escaped by itself) or of Markdown (by the filter `md`)."""
    environment = Environment(
        loader=PackageLoader("deltadex.evidence", "."),
        # Markdown has another escaper, the filter `md`: that of HTML would change what people read.
        autoescape=is_markup,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["md"] = lambda value: markdown_file(str(value))
    environment.filters["plain"] = printable
    environment.filters["xml"] = xml_text
    return environment
