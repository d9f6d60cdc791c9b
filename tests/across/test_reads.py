"""Nearest versions of other bases, from the store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from deltadex.access import HIDDEN, Person, Role
from deltadex.across import queries, reads
from deltadex.across.meaning import Meaning
from deltadex.across.queries import Coverage
from deltadex.across.texts import MEANING_TEXTS
from deltadex.embeddings import queries as embeddings
from deltadex.errors import DeltadexError
from deltadex.store.database import Database
from deltadex.store.revision import revision
from deltadex.types import FloatArray, State
from deltadex.versions import transitions
from tests.stored import ADMIN, REGISTRY, embedded, embedding

TEXTS = MEANING_TEXTS.digest
SIZE = len(MEANING_TEXTS.texts)
DOMAINS = ("legal", "python", "german", "sql")


def shifts_of(domain: str, *, base: str) -> FloatArray:
    """Gain of a domain, without the part that all finetunes of a base share."""
    generator = np.random.default_rng([DOMAINS.index(domain), len(base)])
    made = 0.1 * generator.normal(size=SIZE)
    made[DOMAINS.index(domain) :: len(DOMAINS)] += 1
    made[: SIZE // 3] += 2 if base == "small" else -1
    return made.astype(np.float32)


@dataclass(frozen=True)
class Bases:
    """Ids of versions by domain, of two bases."""

    small: dict[str, int]
    large: dict[str, int]


def save(database: Database, version_id: int, domain: str, base: str, *, weights: str) -> None:
    made = shifts_of(domain, base=base)
    with database.transaction() as tx:
        queries.save(
            tx, version_id, Meaning(made, np.zeros(3, np.float32)), texts_digest=TEXTS, weights_digest=weights,
            base_digest=f"digest of {base}", base_name=base,
        )  # fmt: skip


@pytest.fixture
def bases(database: Database) -> Bases:
    """A finetune of each domain on each of two bases of other sizes."""
    made: dict[str, dict[str, int]] = {"small": {}, "large": {}}
    for base, size in (("small", 4), ("large", 6)):
        for number, domain in enumerate(DOMAINS):
            vector = np.eye(size)[number % size] + 1
            with database.transaction() as tx:
                made[base][domain] = embedded(tx, f"{base}-{domain}", vector, base=base)
            save(database, made[base][domain], domain, base, weights=f"{base}-{domain}/1")
    return Bases(**made)


def nearest(database: Database, version_id: int, **options: object) -> list[str]:
    with database.transaction() as tx:
        found = reads.counterparts(tx, ADMIN, REGISTRY, version_id, **options)
    return [one.version.registered.ref.name for one in found.nearest]


def test_the_nearest_version_of_the_other_base_has_the_same_domain(database: Database, bases: Bases) -> None:
    for domain in DOMAINS:
        assert nearest(database, bases.small[domain])[0] == f"large-{domain}"
        assert nearest(database, bases.large[domain])[0] == f"small-{domain}"


def test_versions_of_its_own_base_are_never_among_them(database: Database, bases: Bases) -> None:
    with database.transaction() as tx:
        found = reads.counterparts(tx, ADMIN, REGISTRY, bases.small["sql"], k=100)
    assert {one.base_name for one in found.nearest} == {"large"}
    assert (found.base_name, found.compared, found.note) == ("small", len(DOMAINS), "")
    similarities = [one.similarity for one in found.nearest]
    assert similarities == sorted(similarities, reverse=True)
    assert nearest(database, bases.small["sql"], base="small") == []
    assert len(nearest(database, bases.small["sql"], base="large", k=2)) == 2


def test_a_base_that_nobody_has_is_an_error(database: Database, bases: Bases) -> None:
    with pytest.raises(DeltadexError, match="No version of gigantic"):
        nearest(database, bases.small["sql"], base="gigantic")


def test_a_hidden_neighbour_is_masked_and_a_hidden_version_has_none(database: Database, bases: Bases) -> None:
    viewer = Person("eve", Role.VIEWER, ("small-*",))
    with database.transaction() as tx:
        found = reads.counterparts(tx, viewer, REGISTRY, bases.small["sql"])
        hidden = reads.counterparts(tx, viewer, REGISTRY, bases.large["sql"])
        drawn = reads.across_map(tx, viewer, REGISTRY)
    assert {one.version.registered.ref.name for one in found.nearest} == {HIDDEN}
    assert not hidden.nearest
    assert sum(row.registered.ref.name == HIDDEN for row in drawn.rows) == len(DOMAINS)


def test_new_weights_are_due_again_and_old_ones_are_not_compared(database: Database, bases: Bases) -> None:
    changed = bases.large["sql"]
    with database.transaction() as tx:
        assert queries.due(tx, REGISTRY, texts_digest=TEXTS) == []
        value = embedding(np.ones(6), weights="later", base="large")
        embeddings.save(tx, changed, value, base_name="large", artifact_uri="u", is_weak=False)
        assert queries.due(tx, REGISTRY, texts_digest=TEXTS) == [(changed, "large")]
        assert reads.coverage(tx, ADMIN, REGISTRY) == [Coverage("large", 4, 3), Coverage("small", 4, 4)]
    assert "large-sql" not in nearest(database, bases.small["sql"])
    save(database, changed, "sql", "large", weights="later")
    assert nearest(database, bases.small["sql"])[0] == "large-sql"


def test_deleted_versions_and_those_of_other_texts_are_left_out(database: Database, bases: Bases) -> None:
    with database.transaction() as tx:
        transitions.mark_ended(tx, bases.large["sql"], state=State.DELETED, reason="gone")
        tx.execute("update meanings set texts_digest = 'older' where model_version_id = %s", [bases.large["legal"]])
        assert reads.coverage(tx, ADMIN, REGISTRY)[0] == Coverage("large", 3, 2)
    assert len(nearest(database, bases.small["sql"], k=9)) == 2


def test_too_weak_versions_are_not_compared(database: Database, bases: Bases) -> None:
    with database.transaction() as tx:
        weak = embedded(tx, "weak", np.ones(4), base="small", is_weak=True)
        assert weak not in [version_id for version_id, _ in queries.due(tx, REGISTRY, texts_digest=TEXTS)]


def test_what_is_missing_is_said(database: Database, bases: Bases) -> None:
    with database.transaction() as tx:
        alone = embedded(tx, "new", np.ones(4), base="small")
        assert "--update" in reads.counterparts(tx, ADMIN, REGISTRY, alone).note
        tx.execute("delete from meanings where base_name = 'large'")
        assert "--update" in reads.counterparts(tx, ADMIN, REGISTRY, bases.small["sql"]).note


def test_a_base_of_few_models_is_named_in_the_note(database: Database, bases: Bases) -> None:
    with database.transaction() as tx:
        tx.execute("delete from meanings where model_version_id = any(%s)", [list(bases.large.values())[:2]])
        assert "Few models of large" in reads.counterparts(tx, ADMIN, REGISTRY, bases.small["sql"]).note


def test_the_map_has_a_place_for_each_version(database: Database, bases: Bases) -> None:
    with database.transaction() as tx:
        drawn = reads.across_map(tx, ADMIN, REGISTRY)
    assert drawn.coordinates.shape == (2 * len(DOMAINS), 2)
    assert drawn.bases == ["large", "small"]


def test_a_new_meaning_is_a_new_revision_of_the_data(database: Database, bases: Bases) -> None:
    with database.transaction() as tx:
        before = revision(tx, REGISTRY)
    save(database, bases.small["sql"], "german", "small", weights="small-sql/1")
    with database.transaction() as tx:
        assert revision(tx, REGISTRY) != before


def test_hidden_bases_are_masked_and_not_confirmed(database: Database) -> None:
    with database.transaction() as tx:
        ids = [
            embedded(tx, f"sql-{base}", np.ones(2), base=f"models:/{base}/1", weights=base)
            for base in ("ours", "theirs")
        ]
    for version_id, base in zip(ids, ("ours", "theirs"), strict=True):
        save(database, version_id, "sql", f"models:/{base}/1", weights=base)
    with database.transaction() as tx:
        viewer = Person("eve", Role.VIEWER, ("sql-*", "ours"))
        assert reads.coverage(tx, viewer, REGISTRY) == [Coverage("models:/ours/1", 1, 1), Coverage(HIDDEN, 1, 1)]
        assert [one.base_name for one in reads.counterparts(tx, viewer, REGISTRY, ids[0]).nearest] == [HIDDEN]
        assert reads.counterparts(tx, ADMIN, REGISTRY, ids[0], base="models:/theirs/1").nearest
        with pytest.raises(DeltadexError, match="can be compared"):
            reads.counterparts(tx, viewer, REGISTRY, ids[0], base="models:/theirs/1")
