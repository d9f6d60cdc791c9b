"""Licences that lead to a finding."""

from __future__ import annotations

import pytest

from deltadex.findings.license import judge_license
from deltadex.types import FindingKind


@pytest.mark.parametrize(
    ("of_base", "of_finetune", "says"),
    [
        ("apache-2.0", None, None),
        ("apache-2.0", "apache-2.0", None),
        (None, "mit", "base-7b is unknown"),
        ("llama3", None, "base-7b is llama3, which is not"),
        ("apache-2.0", "mit", "under apache-2.0, the finetune says mit"),
    ],
)
def test_the_licence_of_the_base_must_be_known_allowed_and_kept(
    of_base: str | None, of_finetune: str | None, says: str | None
) -> None:
    for allowed in (["Apache-2.0", "MIT"], []):
        found = judge_license(3, "base-7b", of_base=of_base, of_finetune=of_finetune, allowed=allowed)
        assert [one.kind for one in found] == ([FindingKind.LICENSE] if says and allowed else [])
        assert all(str(says) in str(one.evidence["reason"]) for one in found)
