"""Replays in the store: their course, what is kept of them, and who may see and ask for them."""

from __future__ import annotations

import json

import pytest

from deltadex.access import Person, Role
from deltadex.asked.queries import AskedState
from deltadex.errors import AccessDenied, DeltadexError, StoreError
from deltadex.replay import queries as replays
from deltadex.replay import reads
from deltadex.replay.agreement import Agreement, Estimate
from deltadex.replay.ask import ask
from deltadex.replay.estimate import estimate
from deltadex.replay.queries import REPLAYS
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from tests.stored import ADMIN, REGISTRY, discovered

SETTINGS = Settings(registry=REGISTRY)
AGREEMENT = Agreement(120, Estimate(0.5, 0.4, 0.6), Estimate(0.75, 0.7, 0.8), Estimate(0.1, 0.05, 0.15))
PROMPTS = ("Which invoices are due?", "Écris „x“.")


def pair(tx: Transaction) -> tuple[int, int]:
    return discovered(tx, "keeper"), discovered(tx, "other")


def done(tx: Transaction, replay_id: int, agreement: Agreement = AGREEMENT, seconds: float = 30) -> None:
    replays.begin(tx, replay_id, flow_run_id="run")
    assert replays.finish(tx, replay_id, agreement, digests=("a", "b"), seconds=seconds)


def test_a_replay_is_asked_queued_run_and_done_and_keeps_no_prompts(database: Database) -> None:
    with database.transaction() as tx:
        keeper, other = pair(tx)
        replay_id = ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS, prompts_from="eval.json")
        assert [one.id for one in REPLAYS.waiting(tx, REGISTRY)] == [replay_id]
        assert REPLAYS.mark_queued(tx, replay_id, flow_run_id="run")
        assert replays.begin(tx, replay_id, flow_run_id="run") == PROMPTS
        REPLAYS.advance(tx, replay_id, 0.5)
        row = reads.get(tx, ADMIN, SETTINGS, replay_id)
        assert (row.state, row.progress, row.prompts_count, row.max_new_tokens) == (AskedState.RUNNING, 0.5, 2, 64)
        assert replays.finish(tx, replay_id, AGREEMENT, digests=("a", "b"), seconds=3)
        row = reads.get(tx, ADMIN, SETTINGS, replay_id)
        assert (row.is_over, row.agreement, row.keeper_digest, row.prompts_from) == (True, AGREEMENT, "a", "eval.json")
        assert tx.execute("select count(prompts) from replays").fetchone() == (0,)


def test_the_latest_replay_is_found_in_either_order_and_a_failed_one_hides_no_result(database: Database) -> None:
    with database.transaction() as tx:
        keeper, other = pair(tx)
        assert reads.latest_between(tx, ADMIN, SETTINGS, keeper, other) is None
        first = ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS)
        done(tx, first)
        second = ask(tx, ADMIN, SETTINGS, other, keeper, PROMPTS)
        REPLAYS.fail(tx, second, reason="no base", hint="Set it.")
        for ids in ((keeper, other), (other, keeper)):
            latest = reads.latest_between(tx, ADMIN, SETTINGS, *ids)
            with_result = reads.latest_between(tx, ADMIN, SETTINGS, *ids, is_done=True)
            assert latest is not None
            assert with_result is not None
            assert (latest.id, latest.reason, with_result.id) == (second, "no base", first)


def test_the_evidence_of_a_decision_is_plain_json_with_intervals_and_digests(database: Database) -> None:
    with database.transaction() as tx:
        keeper, other = pair(tx)
        replay_id = ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS)
        with pytest.raises(ValueError, match="no result"):
            reads.evidence_of(reads.get(tx, ADMIN, SETTINGS, replay_id))
        done(tx, replay_id)
        evidence = json.loads(json.dumps(reads.evidence_of(reads.get(tx, ADMIN, SETTINGS, replay_id))))
    assert (evidence["replay"], evidence["equal"], evidence["intervals"]["equal"]) == (replay_id, 0.5, [0.4, 0.6])
    assert evidence["weights_digests"] == {str(keeper): "a", str(other): "b"}
    assert evidence["verdict"] == AGREEMENT.verdict


def test_a_run_that_is_silent_fails_its_replay_which_may_be_asked_again(database: Database) -> None:
    with database.transaction() as tx:
        keeper, other = pair(tx)
        replay_id = ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS)
        replays.begin(tx, replay_id, flow_run_id="run")
        assert REPLAYS.beat(tx, replay_id, flow_run_id="run")
        assert not REPLAYS.beat(tx, replay_id, flow_run_id="an earlier one")
        assert REPLAYS.fail_silent(tx, REGISTRY, queued_seconds=-60, silent_seconds=60) == 0, "it is not queued"
        tx.execute("update replays set heard_at = now() - interval '61 s'")
        assert REPLAYS.fail_silent(tx, REGISTRY, queued_seconds=60, silent_seconds=60) == 1
        row = reads.get(tx, ADMIN, SETTINGS, replay_id)
        assert (row.state, row.reason) == (AskedState.FAILED, "its flow run died, or no worker took it")
        assert not REPLAYS.beat(tx, replay_id, flow_run_id="run"), "so that the run ends if it lives"
        assert ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS) > replay_id


def test_a_replay_is_seen_and_asked_for_by_who_sees_both_versions(database: Database) -> None:
    eve = Person("eve", Role.VIEWER, ("keeper",))
    with database.transaction() as tx:
        keeper, other = pair(tx)
        replay_id = ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS)
        assert reads.latest_between(tx, eve, SETTINGS, keeper, other) is None
        with pytest.raises(StoreError, match="no replay"):
            reads.get(tx, eve, SETTINGS, replay_id)
        with pytest.raises(AccessDenied, match="not known"):
            ask(tx, eve, SETTINGS, keeper, other, PROMPTS)
        with pytest.raises(DeltadexError, match="against itself"):
            ask(tx, ADMIN, SETTINGS, keeper, keeper, PROMPTS)
        ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS)
        with pytest.raises(AccessDenied, match="2 of your replays"):
            ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS)


def test_readers_may_ask_and_nothing_else(database: Database) -> None:
    with database.transaction() as tx:
        ids = pair(tx)
    with Database(database.url, role="deltadex_reader") as reader:
        with reader.transaction() as tx:
            replay_id = ask(tx, ADMIN, SETTINGS, *ids, PROMPTS)
        with pytest.raises(StoreError, match="permission denied"), reader.transaction() as tx:
            REPLAYS.fail(tx, replay_id, reason="no", hint="")


def test_the_time_is_estimated_by_the_nearest_that_was_measured(database: Database) -> None:
    def said(tx: Transaction, keeper: int) -> str:
        return str(estimate(tx, SETTINGS, keeper, prompts=100))

    with database.transaction() as tx:
        keeper, other = pair(tx)
        unlike = discovered(tx, "unlike")
        tx.execute("update model_versions set declared_base = case name when 'unlike' then 'b' else 'a' end")
        assert "not known" in said(tx, keeper)
        tx.execute("insert into work_done values (%s, 'step', 'embed', 4, 2, 0)", [REGISTRY])
        assert "embedding" in said(tx, keeper)
        for seconds in (1, 3):
            done(tx, ask(tx, ADMIN, SETTINGS, keeper, other, PROMPTS), seconds=seconds)
        assert said(tx, keeper) == "About 2 minutes, estimated from 2 earlier replays of this base."
        assert said(tx, unlike) == "About 2 minutes, estimated from 2 earlier replays of other bases."
