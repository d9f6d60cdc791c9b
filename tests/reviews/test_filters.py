"""Conditions and order of findings."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.findings import queries as findings
from deltadex.reviews import actions as reviews
from deltadex.reviews.filters import FindingFilter, FindingOrder, ordered, values_of
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from tests.reviews.test_groups import ADA, SETTINGS, same
from tests.stored import embedded

LICENSE = FindingKind.LICENSE


@pytest.fixture
def tx(database: Database) -> Transaction:
    """A group of two, and a licence problem of another team."""
    with database.transaction() as tx:
        same(tx, "contracts", "terms", tags={"owner": "lea", "domain": "legal"})
        version_id = embedded(tx, "sql-writer", np.eye(3)[1], tags={"team": "search"})
        found = [Finding(LICENSE, version_id, evidence={"reason": "it is so"})]
        findings.replace(tx, found, version_id=version_id, recipe_id=None, kinds=[LICENSE])
        reviews.follow(tx, SETTINGS)
        yield tx


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, ["license", "exact_duplicate"]),
        ({"text": "SQL licence"}, ["license"]),
        ({"text": "same weights contracts"}, ["exact_duplicate"]),
        ({"text": "sql contracts"}, []),
        ({"team": "search"}, ["license"]),
        ({"owner": "lea"}, ["exact_duplicate"]),
        ({"domain": "legal"}, ["exact_duplicate"]),
        ({"assignee": ""}, ["license", "exact_duplicate"]),
        ({"assignee": "ben"}, []),
        ({"older_than_days": 1}, []),
    ],
)
def test_all_conditions_are_met(tx: Transaction, conditions: dict[str, object], expected: list[str]) -> None:
    wanted = FindingFilter(**conditions)
    rows = [row for row in reviews.listing(tx, ADA, SETTINGS) if wanted.matches(row)]
    assert [row.finding.kind for row in ordered(rows, FindingOrder.URGENT)] == expected


def test_every_order_keeps_all(tx: Transaction) -> None:
    rows = reviews.listing(tx, ADA, SETTINGS)
    for order in FindingOrder:
        assert {row.id for row in ordered(rows, order)} == {row.id for row in rows}
    assert values_of(rows, "team") == ["search"]
    assert values_of(rows, "owner") == ["lea", "search"]
