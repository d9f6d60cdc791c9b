"""Workspaces in the dashboard: people choose among those in which they have a role, and see nothing of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deltadex.ingest import queries as watchers
from deltadex.store.database import Database
from deltadex_dashboard import visitor
from tests.dashboard.conftest import Open
from tests.dashboard.seen import text
from tests.stored import embedded


def test_each_workspace_is_shown_apart(
    environment: pytest.MonkeyPatch, store: Database, open_page: Open, tmp_path: Path
) -> None:
    environment.setenv("DELTADEX_WORKSPACES", "*")
    with store.transaction() as tx:
        for registry in ("acme", "acme/legal", "acme/secret"):
            watchers.record_poll(tx, registry, watermark_ms=0)
            embedded(tx, f"of-{registry.rpartition('/')[2]}", np.ones(4, np.float32), weights="w", registry=registry)
    file = tmp_path / "access.toml"
    file.write_text('[people."ann@acme"]\nrole = "reviewer"\nworkspaces = ["default", "legal"]\n')
    environment.setenv("DELTADEX_ACCESS__FILE", str(file))
    claims = {"iss": "https://id.acme", "sub": "1", "email": "ann@acme", "email_verified": True, "exp": 4e9}
    environment.setattr(visitor, "_claims", lambda: claims)

    page = open_page("models", workspace="legal")
    [choice] = [one for one in page.selectbox if one.label == "Workspace"]
    assert (choice.options, choice.value) == (["default", "legal"], "legal")
    assert "of-legal" in text(page)
    assert "of-acme" not in text(page)
    choice.set_value("default")
    page.run()
    assert not page.exception
    assert "of-acme" in text(page)
    assert "of-legal" not in text(page)
    page = open_page("models", workspace="secret")
    assert "of-secret" not in text(page)
    assert "of-acme" in text(page), "what cannot be chosen is not shown"
