"""Another workspace with the same base, recipe and vectors changes no answer about this one.

The log's chain is one for all workspaces: how long it is, its head and the paths to it are not kept apart. Answers that
hold them, or the time at which they are given, say no word of the other workspace.
"""

from __future__ import annotations

import re

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from deltadex.access import Person, Role
from deltadex.errors import DeltadexError
from deltadex.setting_groups import DatabaseSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from tests import stored, strangers
from tests.stored import ADMIN, REGISTRY
from tests.strangers import Strangers, fill
from tests.test_viewers import READS, name_of, said_of, texts

_HEAD = re.compile(r"\d+:[0-9a-f]{64}")
_WITH_CHAIN_OR_TIME = ("deltadex.reviews.actions.prove", "deltadex.reviews.actions.verify", "deltadex.evidence.")
#: Who sees every model of the workspace, and who sees none.
VIEWERS = (ADMIN, Person("eve", Role.VIEWER, ("no-such-model",)))


def answers(tx: Transaction, made: Strangers) -> dict[str, list[str]]:
    """Return every text of every read, for each viewer."""
    found: dict[str, list[str]] = {}
    for read in READS:
        for viewer in VIEWERS:
            try:
                said = texts(READS[read](tx, viewer, made))
            except DeltadexError as refused:
                said = iter([refused.message])
            found[f"{name_of(read)} for {viewer.name}"] = sorted(one for one in said if not _HEAD.fullmatch(one))
    return found


def test_another_workspace_changes_no_answer(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database tenants")
    url = make_conninfo(postgres_url, dbname="tenants")
    ours = Settings(registry=REGISTRY, database=DatabaseSettings(url=url))
    with Database(url) as database:
        migrate(database)
        made = fill(database, ours)
        before = database.run(lambda tx: answers(tx, made))
        twin = _fill(database, ours.within("legal"), Strangers(), monkeypatch)
        other = _fill(database, ours.within("support"), Strangers(random=np.random.default_rng(1)), monkeypatch)
        after = database.run(lambda tx: answers(tx, made))
    assert (twin.ids.keys(), twin.recipe_id) == (made.ids.keys(), made.recipe_id), "so that only the registry differs"
    assert other.words.isdisjoint(made.words), "so that a word of it would be found"
    words = {name: said_of(said, other.words) for name, said in after.items()}
    assert {name: said for name, said in words.items() if said} == {}
    changed = {
        name: (said, before[name])
        for name, said in after.items()
        if said != before[name] and not name.startswith(_WITH_CHAIN_OR_TIME)
    }
    assert {name: (set(now) - set(then), set(then) - set(now)) for name, (now, then) in changed.items()} == {}


def _fill(database: Database, settings: Settings, made: Strangers, monkeypatch: pytest.MonkeyPatch) -> Strangers:
    with monkeypatch.context() as patch:
        for module in (stored, strangers):
            patch.setattr(module, "REGISTRY", settings.registry)
        return fill(database, settings, made)
