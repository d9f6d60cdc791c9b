"""Deliveries through Apprise to a real HTTP receiver."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from deltadex.access import Person, Role
from deltadex.errors import ChannelError
from deltadex.findings.kinds import Reason
from deltadex.notifications import queries as deliveries
from deltadex.notifications.channels import send
from deltadex.notifications.deliver import notify
from deltadex.notifications.message import Message
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision
from deltadex.setting_groups import NotifySettings
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.types import State
from deltadex.versions import transitions
from tests.message_receiver import Receiver, receiving_messages
from tests.stored import REGISTRY, discovered

ADA = Person("ada", Role.ADMIN)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving_messages() as receiver:
        yield receiver


def with_rule(receiver: Receiver, **rule: object) -> Settings:
    settings = NotifySettings.model_validate(
        {"channels": {"ops": receiver.url}, "rules": [{"name": "all", "channel": "ops", **rule}]}
    )
    return Settings(registry=REGISTRY, notify=settings, dashboard_url="http://dash")


def fail(database: Database, *names: str, reason: str = "the password is hunter2") -> None:
    """Let versions fail, so that there are findings."""
    with database.transaction() as tx:
        for name in names:
            version_id = discovered(tx, name)
            transitions.mark_ended(tx, version_id, state=State.FAILED, reason=reason)
        reviews.follow(tx, Settings(registry=REGISTRY))


def sent(database: Database) -> list[tuple[int, int, str, bool]]:
    with database.transaction() as tx:
        found = deliveries.listing(tx, REGISTRY)
    return [(one.events, one.attempts, one.error, one.delivered_at is not None) for one in found]


def test_a_new_rule_sends_only_later_events_in_one_message_per_round(database: Database, receiver: Receiver) -> None:
    settings = with_rule(receiver)
    fail(database, "old")
    assert notify(settings, database) == 0
    fail(database, "a", "b")
    assert notify(settings, database) == 1
    assert notify(settings, database) == 0
    [message] = receiver.messages
    assert message["title"] == "Deltadex: 2 findings"
    assert message["message"].splitlines() == [
        "opened: failed (high) a/1, finding 2",
        "opened: failed (high) b/1, finding 3",
        "http://dash",
    ]
    assert sent(database) == [(2, 1, "", True)]


def test_a_channel_that_was_down_gets_every_event_once(database: Database, receiver: Receiver) -> None:
    settings = with_rule(receiver)
    notify(settings, database)
    receiver.is_up = False
    fail(database, "a")
    assert notify(settings, database) == 0
    fail(database, "b")
    assert notify(settings, database) == 0
    assert sent(database) == [(2, 2, "The channel ops did not accept the message", False)]
    receiver.is_up = True
    assert notify(settings, database) == 1
    assert [message["title"] for message in receiver.messages] == ["Deltadex: 2 findings"]
    assert sent(database) == [(2, 3, "", True)]


@pytest.mark.parametrize(
    "rule", [{"models": "b*"}, {"severities": ["low"]}, {"kinds": ["drift"]}, {"events": ["closed"]}]
)
def test_a_rule_sends_only_matching_events(database: Database, receiver: Receiver, rule: dict[str, object]) -> None:
    settings = with_rule(receiver, **rule)
    notify(settings, database)
    fail(database, "a")
    assert notify(settings, database) == 0
    assert receiver.messages == sent(database) == []


def test_decisions_are_sent_without_their_comments(database: Database, receiver: Receiver) -> None:
    settings = with_rule(receiver, events=["requested", "approved"])
    fail(database, "a")
    notify(settings, database)
    with database.transaction() as tx:
        [row] = reviews.listing(tx, ADA, settings)
        seen = {row.id: row.revision}
        reviews.decide(tx, ADA, settings, seen, decision=Decision.ACCEPTED, reason=Reason.RETIRE, comment="t0p secret")
    assert notify(settings, database) == 1
    [message] = receiver.messages
    assert message["message"].startswith("requested: failed (high) a/1, finding 1")
    with database.transaction() as tx:
        logged = repr(deliveries.listing(tx, REGISTRY))
    for secret in ("t0p", "hunter2", "s3cret", "t0ken"):
        assert secret not in json.dumps(message) + logged


def test_a_digest_waits_for_its_hour_and_then_sends_everything(database: Database, receiver: Receiver) -> None:
    settings = with_rule(receiver, digest_hours=24)
    notify(settings, database)
    for name in ("a", "b", "c"):
        fail(database, name)
        notify(settings, database)
    assert len(receiver.messages) == 1
    with database.transaction() as tx:
        tx.execute("update notified set sent_at = sent_at - interval '1 day'")
    assert notify(settings, database) == 1
    assert [message["title"] for message in receiver.messages] == ["Deltadex: 1 finding", "Deltadex: 2 findings"]


def test_an_error_about_a_channel_never_shows_its_url(receiver: Receiver) -> None:
    for url in ("nonsense", "json://user:s3cret@127.0.0.1:9/t0ken"):
        with pytest.raises(ChannelError) as caught:
            send("ops", SecretStr(url), Message("t", "b"))
        assert "s3cret" not in caught.value.message + caught.value.hint
