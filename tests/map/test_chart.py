"""Facts of the map about its versions."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.embeddings import queries as embeddings
from deltadex.map.chart import Chart, chart
from deltadex.store.database import Database
from tests.stored import ADMIN, REGISTRY, embedded

DECLARED = ("sql", "sql", "legal", None, "legal", "sql", "legal")
LABELS = (0, 0, 0, 0, 1, 1, -1)


@pytest.fixture
def drawn(database: Database) -> Chart:
    """Seven versions: `sql`, `sql`, `legal` and one without a domain in one cluster, a tie in the other."""
    with database.transaction() as tx:
        for number, domain in enumerate(DECLARED):
            tags = {"team": f"Team {number}"} | ({"domain": domain} if domain else {})
            embedded(tx, f"m{number}", np.eye(7)[number], tags=tags, aliases=("champion",) * (number == 3))
        [recipe] = embeddings.recipes(tx, REGISTRY)
        found = chart(tx, ADMIN, REGISTRY, recipe)
    return Chart(recipe, found.rows, found.coordinates, found.strengths, np.array(LABELS), (), None)


def test_a_version_lies_elsewhere_where_most_of_its_cluster_declare_another_domain(drawn: Chart) -> None:
    assert drawn.domains == list(DECLARED)
    assert np.flatnonzero(drawn.lies_elsewhere).tolist() == [2]


def test_a_search_looks_at_names_aliases_and_tags(drawn: Chart) -> None:
    for text, numbers in {"M3/": [3], "champ": [3], "legal": [2, 4, 6], " team 5 ": [5], "nothing": []}.items():
        assert np.flatnonzero(drawn.matches(text)).tolist() == numbers
    assert drawn.matches("").all()
