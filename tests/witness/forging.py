"""Decisions, and forgeries of the log by the owner of its tables, past all triggers and so that it looks whole."""

from __future__ import annotations

import numpy as np
from psycopg.sql import SQL, Identifier

from deltadex.findings import queries as findings
from deltadex.ownership import actions as ownership
from deltadex.ownership.facts import OwnershipField
from deltadex.reviews import follow
from deltadex.reviews import queries as reviews
from deltadex.reviews.lifecycle import UNDECIDED, Action
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from tests.stored import ADMIN, REGISTRY, embedded


def with_finding(database: Database) -> None:
    """Store one finding that can be decided."""
    with database.transaction() as tx:
        older, newer = (embedded(tx, name, np.ones(3)) for name in ("old", "new"))
        found = Finding(FindingKind.DRIFT, newer, older, measure=0.96, threshold=0.95, evidence={"reason": "alike"})
        findings.replace(tx, [found], version_id=newer, recipe_id=None, kinds=[FindingKind.DRIFT])
        follow.follow(tx, REGISTRY, name=None)


def decide(database: Database, count: int = 1) -> None:
    """Add entries to the log."""
    with database.transaction() as tx:
        for _ in range(count):
            [row] = reviews.listing(tx, REGISTRY)
            # A watcher beside the test closes a finding that no measurement repeats.
            action = Action.ASSIGNED if row.review.status in UNDECIDED else Action.REOPENED
            reviews.record(tx, row.id, action, seen=row.revision, reviewer="ada", comment="c", assignee="ben")


def cut(database: Database, count: int) -> None:
    """Delete the last entries, and set the finding to what the rest of the log says."""
    with database.transaction() as tx:
        _without_triggers(tx)
        tx.execute("update reviews set decision_id = null")
        tx.execute("delete from decisions where id in (select id from decisions order by id desc limit %s)", [count])
        tx.execute("update reviews set decision_id = (select max(id) from decisions)")
        tx.execute("update reviews set status = 'open', assignee = '' where not exists (select from decisions)")
        _with_triggers(tx)


def rewrite(database: Database, number: int) -> None:
    """Let another person have made an entry, and compute the chain again from there, as 0007 did, old hashes kept."""
    with database.transaction() as tx:
        _without_triggers(tx)
        tx.execute(
            """
            with forged as (select id from decisions order by id limit 1 offset %s)
            update decisions set former_hash = hash,
                reviewer = case when decisions.id = forged.id then 'eve' else reviewer end
            from forged where decisions.id >= forged.id
            """,
            [number - 1],
        )
        tx.execute(
            """
            do $$ declare entry decisions; previous text := '';
            begin
                for entry in select * from decisions order by id loop
                    entry.previous_hash := previous;
                    entry.entry_digest := decision_digest(entry);
                    entry.hash := texts_digest(previous, entry.entry_digest);
                    update decisions set previous_hash = entry.previous_hash, entry_digest = entry.entry_digest,
                        hash = entry.hash where id = entry.id;
                    previous := entry.hash;
                end loop;
            end $$
            """
        )
        _with_triggers(tx)


def attest(database: Database) -> None:
    """Add four entries to the ownership history."""
    with database.transaction() as tx:
        stated = {OwnershipField.OWNER: "ben", OwnershipField.TIER: "high", OwnershipField.INTENDED_USE: "reports"}
        ownership.edit(tx, ADMIN, Settings(registry=REGISTRY), "new", stated)
        ownership.attest(tx, ADMIN, Settings(registry=REGISTRY), "new")


def cut_ownership(database: Database) -> None:
    """Delete the last entry of the ownership history, an attestation, and set the model to what the rest says."""
    with database.transaction() as tx:
        _without_triggers(tx)
        tx.execute("update registered_models set attested_id = null")
        tx.execute("delete from ownership_entries where id = (select max(id) from ownership_entries)")
        _with_triggers(tx)


def rewrite_ownership(database: Database) -> None:
    """Let another person have attested, and compute the chain of the ownership history again."""
    with database.transaction() as tx:
        _without_triggers(tx)
        tx.execute("update ownership_entries set person = 'eve' where field = 'attestation'")
        tx.execute(
            """
            do $$ declare entry ownership_entries; previous text := '';
            begin
                for entry in select * from ownership_entries order by id loop
                    entry.previous_hash := previous;
                    entry.hash := ownership_digest(entry);
                    update ownership_entries set previous_hash = previous, hash = entry.hash where id = entry.id;
                    previous := entry.hash;
                end loop;
            end $$
            """
        )
        _with_triggers(tx)


#: Tables whose triggers refuse changes.
_GUARDED = ("decisions", "reviews", "ownership_entries", "registered_models")


def _without_triggers(tx: Transaction) -> None:
    for table in _GUARDED:
        tx.execute(SQL("alter table {} disable trigger user").format(Identifier(table)))
    tx.execute("set constraints all deferred")


def _with_triggers(tx: Transaction) -> None:
    tx.execute("set constraints all immediate")
    for table in _GUARDED:
        tx.execute(SQL("alter table {} enable trigger user").format(Identifier(table)))
