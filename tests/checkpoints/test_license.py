"""Which licence a model's files declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.layout import inspect
from deltadex.checkpoints.license import declared_license
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
def test_the_card_says_it_or_nothing_does(tmp_path: Path, card: str | None, declared: str | None) -> None:
    tiny_models.build_base(tmp_path)
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert declared_license(inspect(LocalFiles(tmp_path))) == declared
