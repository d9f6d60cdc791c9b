"""The governance report of a company."""

from __future__ import annotations

from deltadex.access import Person, Role
from deltadex.findings.kinds import Reason
from deltadex.ingest.round import recompute_where_due
from deltadex.reports.governance import governance_report
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.versions import transitions
from tests.dashboard.company import fill
from tests.stored import REGISTRY, discovered

ADMIN = Person("ann", Role.ADMIN)


def test_it_holds_every_version_finding_threshold_and_recipe(database: Database) -> None:
    settings = Settings(registry=REGISTRY)
    with database.transaction() as tx:
        fill(tx)
    recompute_where_due(database, settings)
    with database.transaction() as tx:
        made = governance_report(tx, ADMIN, settings)
    tables = {table.name: table for table in made.tables}
    assert len(tables["versions"].rows) == 42
    assert sum(count for _, count, _ in tables["coverage"].rows) == 42
    assert sum(share for *_, share in tables["coverage"].rows) == 1
    kinds = {row[1] for row in tables["findings"].rows}
    assert kinds == {"exact duplicate", "near duplicate", "same task", "drift", "wrong base", "too weak", "failed"}
    assert ("drift_distance", 0.5) in [row[:2] for row in tables["thresholds"].rows]
    assert [row[0] for row in tables["recipes"].rows] == ["base", "acme/legacy-lm"]
    hashes = {title: digest for title, _, digest in tables["hashes"].rows}
    assert hashes["Findings as CSV"] == tables["findings"].digest


def test_of_one_store_the_same_report_is_made_again(database: Database) -> None:
    with database.transaction() as tx:
        fill(tx)
        one, again = (governance_report(tx, ADMIN, Settings(registry=REGISTRY)) for _ in range(2))
    assert one.tables == again.tables


def test_what_left_the_registry_is_not_in_it(database: Database) -> None:
    with database.transaction() as tx:
        version_id = discovered(tx, "gone")
        transitions.mark_ended(tx, version_id, state="deleted", reason="")
        made = governance_report(tx, ADMIN, Settings(registry=REGISTRY))
    assert all(not table.rows for table in made.tables if table.name in ("versions", "coverage", "findings"))


def test_what_was_decided_is_in_it_with_the_head_of_the_log(database: Database) -> None:
    settings = Settings(registry=REGISTRY)
    with database.transaction() as tx:
        fill(tx)
        row = reviews.listing(tx, ADMIN, settings)[0]
        reviews.decide(
            tx,
            ADMIN,
            settings,
            {row.id: row.revision},
            decision=Decision.DISMISSED,
            reason=Reason.SANDBOX,
            comment="Ours.",
        )
        made = governance_report(tx, ADMIN, settings)
        head = reviews.verify(tx, ADMIN).head
    tables = {table.name: table for table in made.tables}
    [entry] = tables["decisions"].rows
    assert entry[1:5] == ("ann", "dismissed", "sandbox", "Ours.")
    assert tables["hashes"].rows[-1] == ("Head of the log", 1, head)


def test_models_that_the_reader_may_not_see_are_masked(database: Database) -> None:
    viewer = Person("bob", Role.VIEWER, ("sql-*",))
    with database.transaction() as tx:
        fill(tx)
        made = governance_report(tx, viewer, Settings(registry=REGISTRY))
    assert "sql-writer" in str(made)
    assert "storefront" not in str(made)
