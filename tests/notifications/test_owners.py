"""Messages to the owner of a version that repeats another one, and the tag in MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltadex.access import Person, Role
from deltadex.app import App
from deltadex.embeddings import queries as embeddings
from deltadex.errors import RegistryError, SettingsError
from deltadex.findings.kinds import Reason
from deltadex.ingest import discovery
from deltadex.notifications import queries as deliveries
from deltadex.notifications.owners import RULE, owner_or_author, tell_owners, viewer_of
from deltadex.notifications.repeats import Repeat, message_of, note_of
from deltadex.registry.client import Registry
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision
from deltadex.setting_groups import AccessSettings, NotifySettings
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.types import FindingKind, RegisteredVersion
from deltadex.versions import queries as versions
from tests.message_receiver import Receiver, receiving_messages
from tests.registering import register_folder
from tests.stored import ADMIN, discovered, embedding, grouped, registered

LEGAL = np.array([1.0, 0.0])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving_messages() as receiver:
        yield receiver


@pytest.fixture
def company(app: App, receiver: Receiver, tmp_path: Path) -> App:
    """Two versions in MLflow that behave alike; the owner of the newer one has a channel."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.json").write_text("{}")
    notify = NotifySettings.model_validate({"channels": {"legal": receiver.url}, "owners": {"legal-team": "legal"}})
    settings = app.settings.model_copy(update={"notify": notify, "dashboard_url": "http://dash"})
    for name in ("contract-drafter", "legal-drafter"):
        register_folder(app.registry, name, tmp_path / "files", team="legal-team")
    discovery.poll(app)
    return replace(app, settings=settings)


def found_alike(app: App, *, queue: str = "fresh") -> None:
    with app.database.transaction() as tx:
        rows = versions.listing(tx, app.registry.name)
        for row in rows:
            weights = embedding(LEGAL, weights=row.label)
            embeddings.save(tx, row.id, weights, base_name="base", artifact_uri="runs:/a", is_weak=False)
        tx.execute("update model_versions set queue = %s", [queue])
        grouped(tx, [row.id for row in rows], 0.97)
        reviews.follow(tx, app.settings)


def note(app: App, name: str) -> str | None:
    version = app.registry.read(name, 1)
    assert version is not None
    return version.tags.get("deltadex.note")


def test_an_owner_hears_once_and_the_version_says_so_until_it_is_settled(company: App, receiver: Receiver) -> None:
    assert tell_owners(company) == 0
    found_alike(company)
    assert tell_owners(company) == 1
    assert tell_owners(company) == 0
    [message] = receiver.messages
    assert message["title"] == "Deltadex: legal-drafter/1 repeats another model"
    assert message["message"] == (
        "legal-drafter/1 behaves like contract-drafter/1 (.97). Use that one, or say in the review why both are "
        "needed: finding 1: http://dash/inbox?finding=1"
    )
    assert note(company, "legal-drafter") == (
        "legal-drafter/1 behaves like contract-drafter/1 (.97), finding 1: http://dash/inbox?finding=1"
    )
    assert note(company, "contract-drafter") is None, "it was there first"
    with company.database.transaction() as tx:
        [sent] = deliveries.listing(tx, company.registry.name)
        [row] = reviews.listing(tx, ADMIN, company.settings)
        seen, reason = {row.id: row.revision}, Reason.DIFFERENT_PURPOSE
        reviews.decide(tx, ADMIN, company.settings, seen, decision=Decision.DISMISSED, reason=reason, comment="both")
    assert (sent.rule, sent.channel, sent.events, sent.error) == (RULE, "legal", 1, "")
    assert "s3cret" not in json.dumps(message) + repr(sent)
    assert tell_owners(company) == 0
    assert note(company, "legal-drafter") is None
    assert len(receiver.messages) == 1


def test_a_channel_or_mlflow_that_is_away_gets_it_later(
    company: App, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found_alike(company)
    receiver.is_up = False
    away = replace(company, registry=Registry("http://127.0.0.1:9", name=company.registry.name))
    assert tell_owners(away) == 0
    receiver.is_up = True
    assert tell_owners(away) == 0, "tried again after a minute"
    with company.database.transaction() as tx:
        tx.execute("update repeat_notices set tried_at = tried_at - interval '2 minutes'")
    assert tell_owners(away) == 1
    assert note(company, "legal-drafter") is None
    tell_owners(company)
    assert "contract-drafter/1" in (note(company, "legal-drafter") or "")


def test_without_a_tag_who_ran_the_training_is_the_owner(company: App, receiver: Receiver) -> None:
    version = company.registry.read("legal-drafter", 1)
    assert version is not None
    company.registry.client.set_tag(version.run_id or "", "mlflow.user", "ben")
    name = owner_or_author(company)
    assert name(version) == "legal-team"
    assert name(replace(version, tags={})) == "ben"
    assert name(replace(version, tags={}, run_id=None)) is None
    found_alike(company)
    notify = company.settings.notify.model_copy(update={"owners": {"ben": "legal"}})
    for_ben = replace(company, settings=company.settings.model_copy(update={"notify": notify}))
    with company.database.transaction() as tx:
        tx.execute("update model_versions set tags = '{}'")
    assert tell_owners(for_ben) == 1
    assert len(receiver.messages) == 1


def test_the_backlog_and_old_news_are_told_to_nobody(company: App, receiver: Receiver) -> None:
    found_alike(company, queue="backfill")
    assert tell_owners(company) == 0
    quiet = company.settings.model_copy(update={"notify": NotifySettings()})
    with company.database.transaction() as tx:
        tx.execute("update model_versions set queue = 'fresh'")
    assert tell_owners(replace(company, settings=quiet)) == 0
    assert tell_owners(company) == 0, "a channel that is named later gets no old news"
    assert receiver.messages == []
    assert note(company, "legal-drafter")


def test_with_an_access_file_an_owner_reads_what_they_may_see_and_mlflows_tag_names_nobody_else(
    company: App, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "people.json").write_text('{"people": {"ben": {"role": "viewer"}}}')
    settings = company.settings.model_copy(update={"access": AccessSettings(file=tmp_path / "people.json")})
    strict = replace(company, settings=settings)
    found_alike(strict)
    assert tell_owners(strict) == 1
    [message] = receiver.messages
    assert message["message"].startswith("legal-drafter/1 behaves like a model that you may not see. ")
    assert "contract" not in json.dumps(message) + str(note(strict, "legal-drafter"))
    assert ".97" not in json.dumps(message)


def test_an_owner_is_a_person_or_a_group_of_the_access_file(tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    member = {"role": "viewer", "models": ["legal-*", "contract-*"]}
    file.write_text(
        json.dumps({"people": {"ann": {"role": "admin"}, "ida": {"role": "admin"}}, "groups": {"legal-team": member}})
    )
    owners = {"ann": "a", "legal-team": "b", "*": "c", "eve": "c", "ida": "d", "joe": "d"}
    notify = NotifySettings.model_validate({"channels": dict.fromkeys("abcd", "http://c"), "owners": owners})
    settings, version = Settings(access=AccessSettings(file=file), notify=notify), registered("odd[name]*")
    assert viewer_of(settings, "ann", version).sees_all
    assert viewer_of(settings, "legal-team", version).sees("contract-drafter")
    for other in ("", "eve", "*", "ida"):  # others read ida's channel, too
        stranger = viewer_of(settings, other, version)
        assert (stranger.sees("odd[name]*"), stranger.sees("oddn"), stranger.sees("odd[name]2")) == (True, False, False)
    assert viewer_of(Settings(), "", version).sees_all


def test_naming_a_colleague_as_owner_shows_nothing_of_theirs_in_the_common_channel(
    company: App, receiver: Receiver, tmp_path: Path
) -> None:
    member = {"role": "viewer", "models": ["*"]}
    (tmp_path / "people.json").write_text(json.dumps({"people": {"ann": member}, "groups": {"legal-team": member}}))
    notify = company.settings.notify.model_copy(update={"owners": {"*": "legal"}})
    given = {"access": AccessSettings(file=tmp_path / "people.json"), "notify": notify}
    common = replace(company, settings=company.settings.model_copy(update=given))
    found_alike(common)
    for owner in ("ann", "legal-team"):
        with common.database.transaction() as tx:
            tx.execute("update repeat_notices set told_at = null, tried_at = null")
        tell_owners(common, owner_of=lambda _, owner=owner: owner)
    assert len(receiver.messages) == 2
    assert "contract" not in json.dumps(receiver.messages)


def test_an_owner_that_cannot_be_read_now_delays_no_other_message(company: App, receiver: Receiver) -> None:
    register_folder(company.registry, "legal-writer", Path(company.settings.data_dir), team="legal-team")
    discovery.poll(company)
    found_alike(company)

    def owner_of(version: RegisteredVersion) -> str:
        if version.ref.name == "legal-drafter":
            raise RegistryError("MLflow is away", hint="Start it.", retryable=True)
        return "legal-team"

    assert tell_owners(company, owner_of=owner_of) == 1
    [message] = receiver.messages
    assert message["message"].startswith("legal-writer/1 ")
    with company.database.transaction() as tx:
        tx.execute("update repeat_notices set tried_at = tried_at - interval '2 minutes'")
    assert tell_owners(company) == 1


def test_equal_weights_are_said_as_such_and_odd_names_are_no_markup(database: Database) -> None:
    with database.transaction() as tx:
        rows = [versions.get(tx, discovered(tx, name)) for name in ("@here <b>", "b")]
    repeat = Repeat(7, FindingKind.EXACT_DUPLICATE, rows[1], rows[0], None, more=2, link=None)
    viewer = Person("ann", Role.VIEWER)
    [line] = message_of([(repeat, viewer)]).body.splitlines()
    assert line.startswith("b/1 has the same weights as ")
    assert "@here" not in line
    assert "and 2 more. Use that one" in line
    many = message_of([(repeat, viewer)] * 30)
    assert (many.title, many.body.splitlines()[-1]) == ("Deltadex: 30 new versions repeat others", "… and 10 more")
    assert len(note_of([repeat] * 90, viewer)) == 1000


def test_an_owner_with_an_unknown_channel_is_a_stated_error(app: App) -> None:
    settings = app.settings.model_copy(update={"notify": NotifySettings(owners={"ann": "nowhere"})})
    with pytest.raises(SettingsError, match="nowhere"):
        tell_owners(replace(app, settings=settings))
