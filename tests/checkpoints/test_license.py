"""Licences declared in model cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from tests import tiny_models


@pytest.mark.parametrize(
    ("card", "declared"),
    [
        (None, None),
        ("# A model\n", None),
        ("---\nlicense: Apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("---\nlicense: [mit]\n---\n", None),
        ("---\nlicense: ' '\n---\n", None),
    ],
)
def test_the_licence_comes_from_the_card_only(tmp_path: Path, card: str | None, declared: str | None) -> None:
    tiny_models.build_base(tmp_path)
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert inspect(LocalFiles(tmp_path)).license == declared
