"""Worth of retirements in bytes and money."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.reviews import actions as reviews
from deltadex.reviews.worth import Worth, worth
from deltadex.setting_groups import CostSettings
from deltadex.store.database import Database, Transaction
from deltadex.types import FindingKind
from deltadex.versions.queries import listing
from tests.reviews.test_groups import ADA, SETTINGS, same
from tests.stored import REGISTRY, embedded, grouped

GB = 1_000_000_000


def of(tx: Transaction, **prices: float) -> Worth:
    rows = reviews.listing(tx, ADA, SETTINGS)
    return worth(rows, listing(tx, REGISTRY), CostSettings(**prices))


def resize(tx: Transaction) -> None:
    tx.execute("update model_versions set weights_bytes = %s", [GB])
    reviews.follow(tx, SETTINGS)


def test_what_is_retired_is_freed_and_a_share_of_all(database: Database) -> None:
    with database.transaction() as tx:
        same(tx, "a", "b", "c", aliases=("champion",))
        embedded(tx, "else", np.eye(3)[2])
        resize(tx)
        found = of(tx, gb_month=0.02)
    assert (found.freed_bytes, found.share) == (2 * GB, 0.5)
    assert found.storage == pytest.approx(0.04)
    assert found.endpoints is None
    assert found.in_words("EUR") == "0.04 EUR a month for storage"


def test_endpoints_beyond_one_per_group_could_be_saved(database: Database) -> None:
    with database.transaction() as tx:
        ids = same(tx, "a", "b", "c")
        tx.execute('update model_versions set tags = \'{"endpoint": "eu"}\' where id = any(%s)', [ids[:2]])
        reviews.follow(tx, SETTINGS)
        found = of(tx, endpoint_hour=1)
    assert found.endpoints == 730.5
    assert found.in_words("USD") == "730.50 USD a month for endpoints, once their traffic is moved"


def test_models_of_one_task_are_no_savings(database: Database) -> None:
    with database.transaction() as tx:
        ids = [embedded(tx, name, np.eye(3)[0]) for name in "ab"]
        grouped(tx, ids, kind=FindingKind.SAME_TASK)
        resize(tx)
        assert of(tx).freed_bytes == 0
