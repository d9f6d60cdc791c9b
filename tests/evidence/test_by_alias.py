"""Packs about all versions with an alias."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.errors import EvidenceError
from deltadex.evidence import by_alias
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.stored import ADMIN, REGISTRY, embedded


@pytest.mark.parametrize("fault", [TypeError("no text"), EvidenceError("no text", hint="Wait.")])
def test_a_version_that_can_not_be_packed_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    packed = by_alias.evidence_pack

    def refusing(tx: object, viewer: object, settings: object, version_id: int, **options: str) -> object:
        if version_id == broken:
            raise fault
        return packed(tx, viewer, settings, version_id, **options)

    monkeypatch.setattr(by_alias, "evidence_pack", refusing)
    with database.transaction() as tx:
        embedded(tx, "legal", np.ones(4), aliases=("champion",))
        broken = embedded(tx, "sql-writer", np.ones(4), aliases=("champion",))
        with pytest.raises(EvidenceError, match=r"^sql-writer/1 can't be packed: no text") as error:
            by_alias.packs_with_alias(tx, ADMIN, Settings(registry=REGISTRY), "champion")
    assert error.value.hint
