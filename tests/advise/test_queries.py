"""Requests of advice: their states, what is kept of them, and who sees which candidate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deltadex.access import HIDDEN, Person, Role
from deltadex.advise import queries as advice
from deltadex.advise import reads, words
from deltadex.advise.advice import Advice, AskedTask, advice_of
from deltadex.advise.ask import ask
from deltadex.advise.costs import Tariff
from deltadex.advise.estimate import estimate
from deltadex.advise.measured import Candidate, Readings
from deltadex.advise.queries import ADVICE, AdviceOrder
from deltadex.asked.queries import AskedState
from deltadex.engine.examples import Example
from deltadex.errors import AccessDenied, BaseNotFound, DeltadexError, StoreError
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from tests.advise.test_advice import BASE, PROMPTED, near, scored, task
from tests.stored import ADMIN, REGISTRY, embedded

SETTINGS = Settings(registry=REGISTRY, bases={"acme/base": "/bases/one"})
EXAMPLES = tuple(Example(f"question {number}", f"answer {number}") for number in range(40))
WANTED = AdviceOrder("bm25", 4)


def asked(tx: Transaction, person: Person = ADMIN, wanted: AdviceOrder = WANTED) -> int:
    return ask(tx, person, SETTINGS, "acme/base", EXAMPLES, wanted)


def advice_to_reuse(version_id: int, label: str) -> Advice:
    readings = Readings(BASE, PROMPTED, [scored(near(1.5, seed=5))])
    chosen = [Candidate(version_id, label, 0.9)]
    return advice_of(task(), AskedTask("acme/base", "bm25", 4, 0.05), chosen, readings, tariff=Tariff())


def done(tx: Transaction, request_id: int, found: Advice, *, seconds: float = 60) -> None:
    advice.begin(tx, request_id, flow_run_id="run")
    assert advice.finish(tx, request_id, found, seconds=seconds)


def test_a_request_goes_through_its_states_and_keeps_no_examples(database: Database) -> None:
    with database.transaction() as tx:
        request_id = asked(tx)
        assert [one.id for one in ADVICE.waiting(tx, REGISTRY)] == [request_id]
        assert ADVICE.mark_queued(tx, request_id, flow_run_id="run")
        assert advice.begin(tx, request_id, flow_run_id="run") == EXAMPLES
        assert ADVICE.beat(tx, request_id, flow_run_id="run")
        found = advice_to_reuse(1, "model/1")
        assert advice.finish(tx, request_id, found, seconds=3)
        assert not advice.finish(tx, request_id, found, seconds=4), "it had ended"
        row = advice.get(tx, REGISTRY, request_id)
        assert (row.state, row.advice, row.examples_count, row.sees) == (AskedState.DONE, found, 40, ("*",))
        assert row.wanted == replace(WANTED, work=row.wanted.work)
        assert row.wanted.work > 0
        assert tx.execute("select count(examples) from advice_requests").fetchone() == (0,)


def test_a_candidate_that_the_viewer_may_not_see_has_no_name(database: Database) -> None:
    with database.transaction() as tx:
        version_id = embedded(tx, "secret", [1, 0, 0])
        request_id = asked(tx)
        done(tx, request_id, advice_to_reuse(version_id, "secret/1"))
        shown = reads.get(tx, ADMIN, SETTINGS, request_id).advice
        hidden = reads.get(tx, Person("guest", Role.VIEWER, ("public-*",)), SETTINGS, request_id).advice
    assert shown is not None
    assert hidden is not None
    assert "secret/1" in words.recommendation(shown)
    assert "secret" not in repr(hidden)
    assert HIDDEN in words.recommendation(hidden)


def test_what_is_not_known_is_refused(database: Database) -> None:
    with database.transaction() as tx:
        secret = embedded(tx, "secret", [1, 0, 0])
        with pytest.raises(AccessDenied, match="not known"):
            asked(tx, Person("guest", Role.VIEWER, ("public-*",)), replace(WANTED, candidates=(secret,)))
        with pytest.raises(BaseNotFound):
            ask(tx, ADMIN, SETTINGS, "acme/other", EXAMPLES, WANTED)
        with pytest.raises(DeltadexError, match="'nearest' is not a selector"):
            asked(tx, wanted=AdviceOrder("nearest", 4))
        with pytest.raises(StoreError, match="no advice with id 7"):
            reads.get(tx, ADMIN, SETTINGS, 7)
        for _ in range(2):
            asked(tx)
        with pytest.raises(AccessDenied, match="2 of your requests"):
            asked(tx)


def test_the_time_is_estimated_from_earlier_advice(database: Database) -> None:
    with database.transaction() as tx:
        request_id = asked(tx)
        work = advice.get(tx, REGISTRY, request_id).wanted.work
        assert estimate(tx, SETTINGS, "acme/base", work).seconds is None
        done(tx, request_id, advice_to_reuse(1, "model/1"), seconds=120)
        assert estimate(tx, SETTINGS, "acme/base", work).seconds == pytest.approx(120)
        assert "on other bases" in str(estimate(tx, SETTINGS, "acme/else", 2 * work))
