"""A store with two models, findings, decisions and a training record, and packs about one of its versions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from deltadex.access import Person, Role
from deltadex.evidence.pack import EvidencePack, evidence_pack, write_pack
from deltadex.evidence.signing import signer_of, write_new_key
from deltadex.findings import queries as findings
from deltadex.ownership.tags import keep_tags
from deltadex.registry.client import RegisteredModel
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision, Reason
from deltadex.setting_groups import DatabaseSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from deltadex.types import Finding, FindingKind
from deltadex.versions import license_queries as licenses
from deltadex.versions import record_queries as training_records
from deltadex.versions.license_queries import DeclaredLicenses
from tests.lineage.made import beginning, trained_on
from tests.stored import ADMIN, REGISTRY, embedded, sketched
from tests.witness.conftest import authority as authority

#: May see the model whose packs are made, and no other.
EVE = Person("eve", Role.VIEWER, ("sql-*",))
DRIFT = FindingKind.DRIFT


@dataclass(frozen=True)
class House:
    """A store and its key; `ids` are those of `sql-writer` 1 and 2, and of the hidden `merger-rumour`."""

    database: Database
    settings: Settings
    public_key: Path
    ids: tuple[int, int, int]

    def pack(self, viewer: Person = ADMIN, **options: str) -> EvidencePack:
        with self.database.transaction() as tx:
            return evidence_pack(tx, viewer, self.settings, self.ids[1], **options)

    def decide(self, tx: Transaction, review_id: int, comment: str) -> None:
        row = reviews.get(tx, ADMIN, self.settings, review_id)
        reviews.decide(
            tx, ADMIN, self.settings, {row.id: row.revision}, decision=Decision.DISMISSED, reason=Reason.SANDBOX,
            comment=comment,
        )  # fmt: skip


@pytest.fixture(scope="session")
def house(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database evidence")
    url, folder = make_conninfo(postgres_url, dbname="evidence"), tmp_path_factory.mktemp("house")
    settings = Settings(
        registry=REGISTRY, data_dir=folder, database=DatabaseSettings(url=url), evidence={"pseudonym_key": "k" * 32}
    )
    with Database(url) as database:
        migrate(database)
        with database.transaction() as tx:
            ids = _fill(tx, settings)
        yield House(database, settings, write_new_key(folder / "evidence.key"), ids)


def _fill(tx: Transaction, settings: Settings) -> tuple[int, int, int]:
    random = np.random.default_rng(0)
    one, other, hidden = random.normal(size=(3, 8)).astype(np.float32)
    tags = {"owner": "data | *team*", "domain": "<b>sql</b>"}
    first = embedded(tx, "sql-writer", one, tags=tags)
    second = embedded(tx, "sql-writer", other, version=2, tags=tags, aliases=("champion",), description="Writes `SQL`.")
    rumour = embedded(tx, "merger-rumour", other + hidden / 9)
    for version_id, start in ((first, beginning(0)), (second, trained_on(beginning(0), 1)), (rumour, beginning(5))):
        sketched(tx, version_id, start)
    logged = {"data": {"data set, training": "tickets (9f2c)"}, "parameters": {"learning_rate": "0.0002"}, "code": {}}
    training_records.save(tx, second, logged)
    keep_tags(tx, settings, {"sql-writer": RegisteredModel(1, {}, {"intended_use": "Reports."})})
    licenses.save(tx, second, DeclaredLicenses("apache-2.0", "acme-internal"))
    tx.execute("update model_versions set metrics = %s where id = %s", [json.dumps({"eval_loss": 0.5}), second])
    for newer, older in ((second, first), (rumour, None), (second, rumour)):
        kind = DRIFT if older else FindingKind.TOO_WEAK
        found = Finding(kind, newer, older, measure=0.9, threshold=0.5)
        findings.replace(tx, [found], version_id=newer, recipe_id=None, kinds=[kind] if older != rumour else [])
    reviews.follow(tx, settings)
    for row in reviews.listing(tx, ADMIN, settings):
        concerned = {version.registered.ref.name for version in row.versions}
        comment = "We meant it." if concerned == {"sql-writer"} else "A secret of the board."
        reviews.decide(
            tx, ADMIN, settings, {row.id: row.revision}, decision=Decision.DISMISSED, reason=Reason.SANDBOX,
            comment=comment,
        )  # fmt: skip
    return first, second, rumour


@pytest.fixture(scope="session")
def signed(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed pack; tests copy it before they change anything."""
    return write_pack(house.pack(), tmp_path_factory.mktemp("packs") / "pack", signer=signer_of(house.settings))


@pytest.fixture
def copied(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "copy"))
