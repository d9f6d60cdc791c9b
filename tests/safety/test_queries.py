"""Safety measurements in the store: their course, bases that stay, and who may see and ask for them."""

from __future__ import annotations

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.asked.queries import AskedState
from deltadex.errors import AccessDenied, StoreError
from deltadex.findings import queries as findings
from deltadex.ingest.safety import judge_again
from deltadex.safety import queries as safety
from deltadex.safety import reads
from deltadex.safety.ask import ask, cost, recipe_digest
from deltadex.safety.measure import SafetyBase
from deltadex.safety.queries import SAFETY
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import FindingKind
from tests.safety import states
from tests.stored import ADMIN, REGISTRY, embedded

SETTINGS = Settings(registry=REGISTRY)


@pytest.fixture(scope="module")
def base() -> SafetyBase:
    return states.base()


def measured(tx: Transaction, base: SafetyBase, version_id: int, **values: float) -> int:
    """Store the measurement of a version, as its flow does."""
    request_id = ask(tx, ADMIN, SETTINGS, version_id)
    assert SAFETY.begin(tx, request_id, flow_run_id="run") == recipe_digest()
    safety.save_base(tx, "base", recipe_digest(), base, seconds=4)
    weights = tx.execute("select weights_digest from model_versions where id = %s", [version_id]).fetchone()
    assert weights is not None
    assert safety.finish(
        tx,
        request_id,
        states.reading(base, **values),
        weights_digest=weights[0],
        base_digest="base",
        probes_digest=recipe_digest(),
        seconds=8,
    )
    judge_again(tx, SETTINGS, "base", recipe_digest(), arrived=version_id)
    return request_id


def found(tx: Transaction) -> set[int]:
    rows = findings.listing(tx, REGISTRY, kinds=[FindingKind.SAFETY_COLLAPSED])
    return {row.finding.version_id for row in rows}


def test_a_measurement_is_asked_queued_run_and_done(database: Database, base: SafetyBase) -> None:
    with database.transaction() as tx:
        version_id = embedded(tx, "support", np.ones(3))
        assert reads.measured(tx, ADMIN, SETTINGS, version_id) is None
        assert "The time is not known" in str(cost(tx, SETTINGS))
        request_id = measured(tx, base, version_id)
        row = reads.latest(tx, ADMIN, version_id)
        assert row is not None
        assert (row.id, row.state, row.seconds, row.base_digest) == (request_id, AskedState.DONE, 8, "base")
        assert row.reading == states.reading(base)
        whole = reads.measured(tx, ADMIN, SETTINGS, version_id)
        assert whole is not None
        assert whole.verdict.words.startswith("Kept")
        assert {one.name for one in whole.traits} == set(base.trait_aurocs)
        assert "About 8 s, estimated from the 1 latest here" in str(cost(tx, SETTINGS))


def test_a_base_keeps_the_directions_that_its_versions_were_measured_along(
    database: Database, base: SafetyBase
) -> None:
    with database.transaction() as tx:
        safety.save_base(tx, "base", "p", base, seconds=1)
        safety.save_base(tx, "base", "p", states.base(seed=3), seconds=1)
        kept = safety.base(tx, "base", "p")
        assert kept is not None
        assert np.array_equal(kept.refusal, base.refusal)
        assert np.array_equal(kept.traits, base.traits)
        assert (kept.reading, list(kept.trait_aurocs)) == (base.reading, list(base.trait_aurocs)), (
            "in the order of the directions"
        )
        assert safety.base(tx, "base", "other prompts") is None


def test_a_collapse_is_found_and_goes_when_the_version_is_measured_again(database: Database, base: SafetyBase) -> None:
    with database.transaction() as tx:
        one, other = (embedded(tx, name, np.ones(3)) for name in ("kept", "lost"))
        measured(tx, base, one)
        measured(tx, base, other, separation=0.0)
        assert found(tx) == {other}
        measured(tx, base, other, separation=6.0)
        assert found(tx) == set()


def test_versions_that_arrive_later_calibrate_the_threshold_of_those_before(
    database: Database, base: SafetyBase
) -> None:
    with database.transaction() as tx:
        first = embedded(tx, "first", np.ones(3))
        measured(tx, base, first, separation=2.7)
        assert found(tx) == {first}, "0.45 of the base's, under the setting"
        for number in range(8):
            other = embedded(tx, f"model-{number}", np.ones(3))
            measured(tx, base, other, separation=2.4 + 0.3 * number, seed=number + 2)
        whole = reads.measured(tx, ADMIN, SETTINGS, first)
        assert whole is not None
        assert whole.verdict.threshold.spread is not None
        assert found(tx) == set(), "finetunes of this base keep less, without having collapsed"


def test_who_may_not_see_a_version_neither_asks_nor_reads(database: Database, base: SafetyBase) -> None:
    eve = Person("eve", Role.VIEWER, ("other-*",))
    with database.transaction() as tx:
        version_id = embedded(tx, "support", np.ones(3))
        request_id = measured(tx, base, version_id)
        with pytest.raises(AccessDenied, match="not known"):
            ask(tx, eve, SETTINGS, version_id)
        assert reads.latest(tx, eve, version_id) is None
        assert reads.measured(tx, eve, SETTINGS, version_id) is None
        assert reads.request(tx, ADMIN, SETTINGS, request_id).version_id == version_id
        for viewer, number in ((eve, request_id), (ADMIN, 99)):
            with pytest.raises(StoreError, match=f"no safety measurement with id {number}"):
                reads.request(tx, viewer, SETTINGS, number)


def test_the_setting_asks_for_each_embedded_version_once(database: Database, base: SafetyBase) -> None:
    with database.transaction() as tx:
        one, other = (embedded(tx, name, np.ones(3)) for name in ("one", "other"))
        assert safety.never_measured(tx, REGISTRY, limit=9) == [one, other]
        request_id = safety.ask(tx, REGISTRY, one, probes="p", by="setting")
        SAFETY.fail(tx, request_id, reason="no base", hint="")
        assert safety.never_measured(tx, REGISTRY, limit=9) == [other], "one that failed is not tried for ever"
