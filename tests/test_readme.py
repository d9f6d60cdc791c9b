"""The README's table of settings equals the code's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deltadex.settings import PREFIX, Settings

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_lists_every_setting_with_its_default() -> None:
    listed = README.read_text().split("tests/test_readme.py -->\n")[1].split("<!-- /settings")[0]
    assert listed == "| variable | default | is |\n|---|---|---|\n" + "".join(_rows(Settings, PREFIX))


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from _rows(group, f"{prefix}{name.upper()}__")
        else:
            yield f"| `{prefix}{name.upper()}` | {_default(field)} | {field.description} |\n"


def _default(field: FieldInfo) -> str:
    return "" if field.default_factory or field.default is None else f"`{field.default}`"
