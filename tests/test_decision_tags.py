"""What MLflow's tags tell of decisions, on a real MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deltadex import discovery, reviews
from deltadex.decision_tags import write_back_decisions
from deltadex.domain import State
from deltadex.governance.access import Person, Role
from deltadex.governance.reasons import Decision, Reason
from deltadex.mlflow_edge.registry import Registry
from deltadex.services import Services
from deltadex.store import version_changes, versions
from tests.registering import register_folder

ADA = Person("ada", Role.ADMIN)


@pytest.fixture
def failed(services: Services, tmp_path: Path) -> int:
    """A review of a version that could not be embedded."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    register_folder(services.registry, "broken", tmp_path / "files")
    discovery.poll(services)
    with services.database.transaction() as tx:
        [row] = versions.listing(tx, services.registry.name)
        version_changes.mark_ended(tx, row.id, state=State.FAILED, reason="truncated", hint="log it again")
        [review_id] = reviews.follow(tx, services.settings).opened
    return review_id


def dismiss(services: Services, review_id: int) -> None:
    with services.database.transaction() as tx:
        row = reviews.get(tx, ADA, services.settings, review_id)
        seen = {row.id: row.revision}
        reviews.decide(
            tx, ADA, services.settings, seen, decision=Decision.DISMISSED, reason=Reason.NOT_NEEDED, comment="secret"
        )


def tag(services: Services) -> str | None:
    version = services.registry.read("broken", 1)
    assert version is not None
    return version.tags.get("deltadex.review.failed")


def test_a_decision_is_told_once_and_so_is_its_end(services: Services, failed: int) -> None:
    assert write_back_decisions(services) == 0
    dismiss(services, failed)
    assert write_back_decisions(services) == 1
    assert tag(services) == f"finding {failed}: dismissed (not_needed)"
    assert write_back_decisions(services) == 0
    with services.database.transaction() as tx:
        row = reviews.get(tx, ADA, services.settings, failed)
        reviews.reopen(tx, ADA, services.settings, {row.id: row.revision}, comment="after all")
    assert write_back_decisions(services) == 1
    assert tag(services) == f"finding {failed}: open"


def test_what_could_not_be_told_is_told_later(services: Services, failed: int, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    dismiss(services, failed)
    away = replace(services, registry=Registry("http://127.0.0.1:9", name=services.registry.name))
    assert write_back_decisions(away) == 0
    assert write_back_decisions(services) == 1
    assert tag(services)


def test_what_is_not_in_the_registry_any_more_is_not_tried_for_ever(services: Services, failed: int) -> None:
    dismiss(services, failed)
    services.registry.client.delete_model_version("broken", "1")
    assert write_back_decisions(services) == 1
    assert write_back_decisions(services) == 0
