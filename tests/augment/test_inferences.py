"""Global augmentation by a real server: what it writes is read strictly and filtered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltadex.access import Person, Role
from deltadex.augment import inferences
from deltadex.augment.augmented import Drop, Origin
from deltadex.augment.filtering import Sieve
from deltadex.endpoint import queries as sent_texts
from deltadex.endpoint.client import ChatEndpoint
from deltadex.endpoint.outgoing import AgreedEndpoint, Outgoing, Purpose
from deltadex.engine.examples import Example
from deltadex.errors import EndpointError
from deltadex.setting_groups import EndpointSettings
from deltadex.store.database import Database
from tests import tiny_models
from tests.chat_servers import in_turn, said, serving, serving_model
from tests.stored import ADMIN, REGISTRY

FACTS = tuple(Example(f"What is T{number}?", f"the {number}th of the terms") for number in range(25))


def agreed(url: str, database: Database) -> AgreedEndpoint:
    endpoint = ChatEndpoint.of(EndpointSettings(url=url, model="tiny", max_tokens=32))
    outgoing = Outgoing(Purpose.AUGMENT, endpoint, inferences.texts_of(FACTS))
    return outgoing.agree(Person("ada", Role.REVIEWER), database, REGISTRY)


def line(prompt: str, completion: str, *sources: object) -> str:
    return json.dumps({"prompt": prompt, "completion": completion, "sources": sources})


def test_inferences_are_marked_with_their_sources_and_all_else_is_counted(database: Database) -> None:
    good = line("Which of the terms is before T2?", "T1, the 1th of the terms", 2, 3)
    answer = [
        "Here you are:", "```json", good, good, "```",
        line("What is T0 or T1?", "one of the terms", 1),  # says the same of one example
        line("What is T0 or T30?", "one of the terms", 1, 31),  # there is no such example
        line("What is T0 or T24?", "one of the terms", 1, 25),  # was not shown with it
        line("Who won the cup?", "Argentina did, in Qatar", 1, 2),
        line("What is T0 or T1?", "", 1, 2),
        line("What is T0?", "the terms", "1", "2"),
    ]  # fmt: skip
    sieve = Sieve(FACTS)
    with serving(in_turn(said("\n".join(answer)), said("nothing"))) as peer:
        inferences.offer(sieve, FACTS, agreed(peer.url, database))
    [kept] = sieve.kept
    assert (kept.origin, kept.sources, kept.rule) == (Origin.INFERRED, (1, 2), "tiny")
    assert kept.example == Example("Which of the terms is before T2?", "T1, the 1th of the terms")
    # Two sentences, three lines with wrong sources, one with text for numbers.
    assert +sieve.dropped == {Drop.UNREADABLE: 6, Drop.DUPLICATE: 1, Drop.FAR: 1, Drop.EMPTY: 1}
    assert len(peer.requests) == 2
    sent = "".join(request["messages"][1]["content"] for request in peer.requests)
    assert all(text in sent for text in inferences.texts_of(FACTS))


def test_a_small_model_infers_nothing_and_its_answer_is_counted(database: Database, tmp_path: Path) -> None:
    sieve = Sieve(FACTS)
    with serving_model(tiny_models.build_base(tmp_path / "base")) as peer:
        inferences.offer(sieve, FACTS, agreed(peer.url, database))
    assert sieve.kept == []
    assert sieve.dropped[Drop.UNREADABLE] == sieve.dropped.total() > 0
    assert len(database.run(lambda tx: sent_texts.listing(tx, ADMIN, REGISTRY, limit=10))) == 2


def test_an_endpoint_that_fails_is_an_error(database: Database) -> None:
    with serving(in_turn((400, {}, b"no"))) as peer, pytest.raises(EndpointError):
        inferences.offer(Sieve(FACTS), FACTS, agreed(peer.url, database))
