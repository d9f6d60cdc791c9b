"""Tags of registered models on a real MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deltadex.app import App
from deltadex.ingest import discovery
from deltadex.ownership import actions, queries, reads
from deltadex.ownership.facts import FactOrigin, OwnershipField
from deltadex.ownership.tags import keep_tags, write_back_stated
from deltadex.registry.client import RegisteredModel, Registry
from tests.registering import register_folder
from tests.stored import ADMIN

OWNER, TIER, *_ = OwnershipField


@pytest.fixture
def watched(app: App, tmp_path: Path) -> App:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    register_folder(app.registry, "support", tmp_path / "files")
    app.registry.client.set_registered_model_tag("support", "owner", "the tag's")
    discovery.sweep(app)
    return app


def edit(app: App, **values: str | None) -> None:
    with app.database.transaction() as tx:
        actions.edit(tx, ADMIN, app.settings, "support", {OwnershipField(key): text for key, text in values.items()})


def tags(app: App) -> dict[str, str]:
    return dict(app.registry.client.get_registered_model("support").tags)


def test_what_is_stated_is_written_once_and_again_if_somebody_overwrites_it(watched: App) -> None:
    assert write_back_stated(watched) == 0
    edit(watched, owner="ada", tier="high")
    assert write_back_stated(watched) == 1
    expected = {"owner": "the tag's", "deltadex.owner": "ada", "deltadex.risk_tier": "high"}
    assert tags(watched) == expected
    assert write_back_stated(watched) == 0
    watched.registry.client.set_registered_model_tag("support", "deltadex.owner", "eve")
    discovery.sweep(watched)
    with watched.database.transaction() as tx:
        known = reads.of_model(tx, ADMIN, watched.settings, "support")
    assert (known.owner, known.owner_fact.origin) == ("ada", FactOrigin.STATED)
    assert write_back_stated(watched) == 1
    assert tags(watched) == expected


def test_a_tag_goes_with_what_was_stated(watched: App) -> None:
    edit(watched, owner="ada", tier="high")
    write_back_stated(watched)
    edit(watched, owner=None)
    assert write_back_stated(watched) == 1
    assert tags(watched) == {"owner": "the tag's", "deltadex.risk_tier": "high"}
    discovery.sweep(watched)
    with watched.database.transaction() as tx:
        assert reads.of_model(tx, ADMIN, watched.settings, "support").owner == "the tag's"
    # A tag that somebody sets by hand later is theirs.
    watched.registry.client.set_registered_model_tag("support", "deltadex.owner", "bo")
    discovery.sweep(watched)
    assert write_back_stated(watched) == 0
    with watched.database.transaction() as tx:
        assert reads.of_model(tx, ADMIN, watched.settings, "support").owner == "bo"


def test_an_edit_survives_an_mlflow_that_is_away(watched: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    edit(watched, owner="ada")
    away = replace(watched, registry=Registry("http://127.0.0.1:9", name=watched.registry.name))
    assert write_back_stated(away) == 0
    assert "deltadex.owner" not in tags(watched)
    assert write_back_stated(watched) == 1
    assert tags(watched)["deltadex.owner"] == "ada"


def test_models_that_take_each_others_names_keep_what_is_stated(watched: App) -> None:
    edit(watched, owner="ada")
    registry = watched.settings.registry
    with watched.database.transaction() as tx:
        [old] = queries.known_models(tx, registry)
        first, other = (RegisteredModel(ms, {}, {}) for ms in (old.created_ms, 7))

        def ids(**listed: RegisteredModel) -> dict[str, int]:
            keep_tags(tx, watched.settings, listed)
            return {one.name: one.id for one in queries.known_models(tx, registry)}

        reused = ids(help=first, support=other)
        assert (reused["help"], set(reused)) == (old.id, {"help", "support"})
        assert ids(support=first, help=other) == {"support": old.id, "help": reused["support"]}
        assert reads.of_model(tx, ADMIN, watched.settings, "support").owner == "ada"
        again = ids(support=RegisteredModel(8, {}, {}), help=other)
        assert again["support"] not in (old.id, again["help"]), "a model that was deleted, and one created again"
        assert reads.of_model(tx, ADMIN, watched.settings, "support").owner == ""
