"""Decisions and attestations in a pack: who decided, about which versions, and what becomes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.errors import EvidenceError
from deltadex.evidence.decisions import summary
from deltadex.evidence.pack import EvidencePack, evidence_pack
from deltadex.ownership import actions as ownership
from deltadex.ownership.facts import OwnershipField
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision, Reason
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from tests.stored import ADMIN, REGISTRY, embedded, grouped

SETTINGS = Settings(registry=REGISTRY)
BO = Person("bo", Role.ADMIN, identity="https://id.acme.com#8231")


def near_duplicates(tx: Transaction) -> tuple[int, int, int]:
    """Return two near duplicates, and the number of their finding."""
    first = embedded(tx, "sql-writer", np.ones(4), aliases=("champion",))
    second = embedded(tx, "sql-reader", np.ones(4) + 0.01)
    grouped(tx, [first, second])
    reviews.follow(tx, SETTINGS)
    [row] = reviews.listing(tx, ADMIN, SETTINGS)
    return first, second, row.id


def seen(tx: Transaction, finding: int) -> dict[int, int]:
    return {finding: reviews.get(tx, ADMIN, SETTINGS, finding).revision}


def decisions(pack: EvidencePack) -> list[dict]:
    return json.loads(pack.files["decisions.json"])["decisions"]


def row_of(pack: EvidencePack, word: str) -> str:
    [found] = [line for line in pack.files["model-card.md"].splitlines() if word in line]
    return found.replace("\\", "").replace("\N{WORD JOINER}", "")


def test_a_request_to_retire_names_the_plan_and_waits_until_it_is_approved(database: Database) -> None:
    with database.transaction() as tx:
        first, second, finding = near_duplicates(tx)
        reviews.assign(tx, ADMIN, SETTINGS, seen(tx, finding), assignee="bo")
        reviews.decide(
            tx, ADMIN, SETTINGS, seen(tx, finding), decision=Decision.ACCEPTED, reason=Reason.RETIRE, comment="Old."
        )
        asked = evidence_pack(tx, ADMIN, SETTINGS, first)
        reviews.approve(tx, BO, SETTINGS, seen(tx, finding), comment="Yes.")
        approved = evidence_pack(tx, ADMIN, SETTINGS, second)
    assigned, request = decisions(asked)
    assert assigned["says"] == "assigned the finding to bo"
    assert (request["finding"], request["kind"]) == (str(finding), "near_duplicate")
    assert request["says"] == "asked to retire: waits for approval by a second person"
    assert request["versions"] == [
        {"version": "sql-reader/1", "becomes": "retired, if approved"},
        {"version": "sql-writer/1", "becomes": "kept, if approved"},
    ]
    shown = row_of(asked, "asked to retire")
    assert "Near duplicates" in shown
    assert "sql-reader/1 (retired, if approved)" in shown
    assert " UTC | ada | " in shown
    assert "| waits for approval |" in row_of(asked, "| 0.96 |")
    assert "near duplicate, waits for approval" in asked.files["bom.cdx.json"]
    [answer] = [one for one in decisions(approved) if one["action"] == "approved"]
    assert [one["becomes"] for one in answer["versions"]] == ["to be retired", "kept"]
    assert "| bo (https://id.acme.com#8231) |" in row_of(approved, "approved the request")


def test_a_dismissed_proposal_retires_nothing(database: Database) -> None:
    with database.transaction() as tx:
        first, _, finding = near_duplicates(tx)
        reviews.decide(
            tx,
            ADMIN,
            SETTINGS,
            seen(tx, finding),
            decision=Decision.DISMISSED,
            reason=Reason.DIFFERENT_PURPOSE,
            comment="No.",
        )
        pack = evidence_pack(tx, ADMIN, SETTINGS, first)
    [told] = decisions(pack)
    assert [(one["version"], one["becomes"]) for one in told["versions"]] == [
        ("sql-reader/1", None),
        ("sql-writer/1", None),
    ]
    shown = row_of(pack, "dismissed the finding")
    assert "retire" not in shown
    assert "| different purpose |" in shown


@pytest.mark.parametrize(
    "broken", [{}, {"action": "{reason.x}"}, {"evidence": "["}, {"evidence": "[1]"}, {"reason": 1}]
)
def test_a_summary_of_nonsense_is_refused(broken: dict) -> None:
    fields = dict.fromkeys(
        ("id", "decided_at", "reviewer", "identity", "review_id", "kind", "status", "assignee", "rule", "request_id"),
        "1",
    )
    whole = {
        **fields,
        "action": "dismissed",
        "reason": "sandbox",
        "evidence": "{}",
        "subject": "a:b/1@2",
        "other_subject": None,
    }
    assert summary({"entry": whole, "text": None})["versions"] == [{"version": "b/1", "becomes": None}]
    with pytest.raises(EvidenceError, match="can't be read"):
        summary({"entry": {**whole, **broken} if broken else {}, "text": None})


def test_an_attestation_says_by_whom_and_when(database: Database) -> None:
    stated = {
        OwnershipField.OWNER: "bo",
        OwnershipField.TIER: "high",
        OwnershipField.INTENDED_USE: "Reports.",
        OwnershipField.REVIEW_BY: "2099-01-02",
    }
    with database.transaction() as tx:
        version_id = embedded(tx, "sql-writer", np.ones(4))
        ownership.edit(tx, ADMIN, SETTINGS, "sql-writer", stated)
        assert "| attestation | missing |" in evidence_pack(tx, ADMIN, SETTINGS, version_id).files["model-card.md"]
        ownership.attest(tx, ADMIN, SETTINGS, "sql-writer")
        by_another = evidence_pack(tx, ADMIN, SETTINGS, version_id)
        ownership.attest(tx, BO, SETTINGS, "sql-writer")
        by_owner = evidence_pack(tx, ADMIN, SETTINGS, version_id)
    assert "by ada, not the owner, who was bo, at 20" in row_of(by_another, "attestation")
    assert "by bo (https://id.acme.com#8231), the owner, at 20" in row_of(by_owner, "attestation")
    assert "2099-01-02" in row_of(by_owner, "review by")
    latest = json.loads(by_owner.files["ownership.json"])["attestation"]["latest"]
    assert (latest["by"], latest["identity"], latest["is_owner"]) == ("bo", BO.identity, True)
