"""Plans: a strict form, corrected once, and a default one where that fails too."""

from __future__ import annotations

import json

import pytest

from deltadex.endpoint.client import ChatEndpoint
from deltadex.endpoint.outgoing import AgreedEndpoint, Outgoing, Purpose
from deltadex.justify.plan import DEFAULT_PLAN, PlanOrigin, ReadingAction, plan_for
from deltadex.setting_groups import EndpointSettings
from deltadex.store.database import Database
from tests.chat_servers import in_turn, said, serving
from tests.stored import ADMIN, REGISTRY

TASK, NAMES = "German product texts", "a/1: description\nb/1: description"


def agreed(url: str, database: Database) -> AgreedEndpoint:
    endpoint = ChatEndpoint.of(EndpointSettings(url=url, model="tiny"))
    return Outgoing(Purpose.JUSTIFY, endpoint, (TASK, NAMES)).agree(ADMIN, database, REGISTRY)


def plan(*actions: str, **more: object) -> str:
    return json.dumps({"steps": [{"action": action, "about": "the task", **more} for action in actions]})


GOOD = plan("find", "extract", "compare", "quote", "check")


def test_a_valid_plan_is_taken_even_between_sentences(database: Database) -> None:
    with serving(in_turn(said(f"Of course:\n```json\n{GOOD}\n```\nDone."))) as peer:
        found, origin = plan_for(agreed(peer.url, database), TASK, NAMES)
    assert origin is PlanOrigin.PLANNED
    assert [step.action for step in found.steps] == list(ReadingAction)
    [request] = peer.requests
    assert TASK in request["messages"][1]["content"]


@pytest.mark.parametrize(
    "bad",
    [
        "I can't.",
        plan("find", "quote"),
        plan("extract", "quote", "check"),
        plan("find", "quote", "extract", "check"),
        plan("find", "quote", "check", "quote", "check"),
        plan(*["find"] * 5, "quote", "check"),
        plan("find", "send", "quote", "check"),
        plan("find", "quote", "check", url="https://elsewhere"),
        GOOD.replace("the task", "x" * 201),
    ],
)
def test_an_invalid_plan_is_corrected_once_or_replaced(database: Database, bad: str) -> None:
    with serving(in_turn(said(bad), said(GOOD))) as peer:
        _, origin = plan_for(agreed(peer.url, database), TASK, NAMES)
    assert origin is PlanOrigin.CORRECTED
    assert bad in peer.requests[1]["messages"][1]["content"]
    with serving(in_turn(said(bad))) as peer:
        assert plan_for(agreed(peer.url, database), TASK, NAMES) == (DEFAULT_PLAN, PlanOrigin.DEFAULT)
    assert len(peer.requests) == 2
