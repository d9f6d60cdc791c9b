"""The questions of dashboard and command line, on a real store."""

from __future__ import annotations

import numpy as np

from deltadex import answers
from deltadex.store import embeddings, versions
from deltadex.store.database import Database
from tests.store.examples import REGISTRY, embedded

SQL, LEGAL = np.array([1, 0, 0.1, 0]), np.array([0, 1, 0, 0.1])


def test_domains_are_named_and_hold_every_version(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(3):
            embedded(tx, f"sql-{number}", SQL + 0.01 * number, tags={"domain": "sql"})
        embedded(tx, "odd", LEGAL)
        [recipe] = embeddings.recipes(tx, REGISTRY)
        found = answers.domains(tx, REGISTRY, recipe, min_similarity=0.6)
        assert len(versions.listing(tx, REGISTRY)) == len(found.table.rows)
    assert [name.text for name in found.names] == ["sql"]
    assert len(found.members(0)) == 3
