"""Decisions as tags on a real MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deltadex.access import Person, Role
from deltadex.app import App
from deltadex.findings.kinds import Reason
from deltadex.ingest import discovery
from deltadex.registry.client import Registry
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision
from deltadex.reviews.tags import write_back_decisions
from deltadex.types import State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.registering import register_folder

ADA = Person("ada", Role.ADMIN)


@pytest.fixture
def failed(app: App, tmp_path: Path) -> int:
    """A review of a version that could not be embedded."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    register_folder(app.registry, "broken", tmp_path / "files")
    discovery.poll(app)
    with app.database.transaction() as tx:
        [row] = versions.listing(tx, app.registry.name)
        transitions.mark_ended(tx, row.id, state=State.FAILED, reason="truncated", hint="log it again")
        reviews.follow(tx, app.settings)
        [review] = reviews.listing(tx, ADA, app.settings)
    return review.id


def dismiss(app: App, review_id: int) -> None:
    with app.database.transaction() as tx:
        row = reviews.get(tx, ADA, app.settings, review_id)
        seen = {row.id: row.revision}
        reviews.decide(
            tx, ADA, app.settings, seen, decision=Decision.DISMISSED, reason=Reason.NOT_NEEDED, comment="secret"
        )


def tag(app: App) -> str | None:
    version = app.registry.read("broken", 1)
    assert version is not None
    return version.tags.get("deltadex.review.failed")


def test_a_decision_is_told_once_and_so_is_its_end(app: App, failed: int) -> None:
    assert write_back_decisions(app) == 0
    dismiss(app, failed)
    assert write_back_decisions(app) == 1
    assert tag(app) == f"finding {failed}: dismissed (not_needed)"
    assert write_back_decisions(app) == 0
    with app.database.transaction() as tx:
        row = reviews.get(tx, ADA, app.settings, failed)
        reviews.reopen(tx, ADA, app.settings, {row.id: row.revision}, comment="after all")
    assert write_back_decisions(app) == 1
    assert tag(app) == f"finding {failed}: open"


def test_what_could_not_be_told_is_told_later(app: App, failed: int, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    dismiss(app, failed)
    away = replace(app, registry=Registry("http://127.0.0.1:9", name=app.registry.name))
    assert write_back_decisions(away) == 0
    assert write_back_decisions(app) == 1
    assert tag(app)


def test_what_is_not_in_the_registry_any_more_is_not_tried_for_ever(app: App, failed: int) -> None:
    dismiss(app, failed)
    app.registry.client.delete_model_version("broken", "1")
    assert write_back_decisions(app) == 1
    assert write_back_decisions(app) == 0
