"""People: their identity, rights and visible models."""

from __future__ import annotations

import itertools
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deltadex.access import (
    HIDDEN,
    Directory,
    Person,
    Right,
    Role,
    at_page,
    at_terminal,
    from_claims,
    read_directory,
    system_user,
)
from deltadex.errors import AccessDenied, SettingsError
from deltadex.setting_groups import AccessSettings
from deltadex.settings import Settings
from deltadex.types import Queue, State, VersionRow
from tests.stored import registered

DIRECTORY = Directory.model_validate(
    {
        "people": {"ada@acme": {"role": "admin"}, "https://id.acme#42": {"role": "approver"}},
        "groups": {
            "ml": {"role": "reviewer", "models": ["support-*"]},
            "risk": {"role": "approver", "models": ["credit-*"]},
        },
    }
)
NOW = 1_000.0


def login(**claims: object) -> Person:
    token = {"iss": "https://id.acme", "sub": "17", "email_verified": True, "exp": NOW + 1, **claims}
    return from_claims(DIRECTORY, token, now=NOW, name_claim="email", groups_claim="groups")


@pytest.mark.parametrize(("role", "right"), [*itertools.product(Role, Right)])
def test_each_role_includes_the_rights_of_lower_roles(role: Role, right: Right) -> None:
    person = Person("ada", role)
    assert person.may(right) == (list(Role).index(role) >= list(Right).index(right))
    if not person.may(right):
        with pytest.raises(AccessDenied, match=f"ada is a {role} and may not {right}"):
            person.require(right)


def test_groups_add_up_and_a_personal_entry_takes_precedence() -> None:
    assert login(email="eve@acme", groups=["ml", "risk", "x"]) == Person(
        "eve@acme", Role.APPROVER, ("support-*", "credit-*")
    )
    assert login(email="ada@acme", groups=["ml"]) == Person("ada@acme", Role.ADMIN)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"email": "eve@acme"}, "eve@acme has no role"),
        ({"email": "eve@acme", "groups": "ml"}, "eve@acme has no role"),
        ({"email": "ada@acme", "exp": NOW}, "expired"),
        ({"email": "ada@acme", "exp": None}, "expired"),
        ({"email": ""}, "no 'email'"),
        ({}, "no 'email'"),
        ({"email": "ada@acme", "iss": ""}, "no issuer and subject"),
        ({"email": "ada@acme", "sub": None}, "no issuer and subject"),
        ({"email": "ada@acme", "email_verified": False}, "https://id.acme#17 has no role"),
        ({"email": "ada@acme", "email_verified": None}, "https://id.acme#17 has no role"),
        ({"email": "ada@acme", "email_verified": "no"}, "https://id.acme#17 has no role"),
    ],
)
def test_a_login_that_expired_or_has_no_name_is_refused(claims: dict[str, object], message: str) -> None:
    with pytest.raises(AccessDenied, match=message):
        login(**claims)


def test_issuer_and_subject_are_the_identity_whatever_the_name() -> None:
    before, after = login(email="ada@acme"), login(email="ada@acme", sub="18")
    assert (before.name, before.identity) == ("ada@acme", "https://id.acme#17")
    assert after.identity == "https://id.acme#18"
    assert login(email="new.name@acme", sub="42").role is Role.APPROVER
    with pytest.raises(AccessDenied, match="has no role"):
        login(email="new.name@acme", sub="42", iss="https://elsewhere")
    with pytest.raises(AccessDenied, match="has no role"):
        login(email="https://id.acme#42", email_verified=False)


def test_who_calls_themselves_like_an_identity_is_not_that_person() -> None:
    admin = {"role": "admin"}
    directory = Directory.model_validate({"people": {"https://id#8231": admin, "uid 0": admin}})
    assert directory.person("ann", identity="https://id#8231").role is Role.ADMIN
    for name in ("https://id#8231", "uid 0"):
        with pytest.raises(AccessDenied, match="has no role"):
            directory.person(name, identity="https://id#666")


def test_an_address_that_is_not_verified_is_no_name_and_grants_nothing() -> None:
    """Anyone may enter the address of an admin; what the provider itself says of groups still counts."""
    seen = login(email="ada@acme", email_verified=False, groups=["ml"])
    assert (seen.name, seen.role, seen.models) == ("https://id.acme#17", Role.REVIEWER, ("support-*",))


def test_another_claim_may_be_the_name() -> None:
    token = {"iss": "https://id.acme", "sub": "17", "upn": "ada@acme", "exp": NOW + 1}
    person = from_claims(DIRECTORY, token, now=NOW, name_claim="upn", groups_claim="groups")
    assert (person.name, person.role) == ("ada@acme", Role.ADMIN)


def test_a_user_of_this_machine_is_known_by_number_whatever_they_call_themselves() -> None:
    user = f"uid {os.getuid()}"
    assert at_terminal(Settings()).identity == user
    assert at_terminal(Settings(), as_="ben").identity == f"{user} as ben"
    assert at_page(Settings(), claims=None, address="127.0.0.1", as_="ben").identity == f"{user} as ben"


def test_a_hidden_version_is_shown_without_its_name() -> None:
    row = VersionRow(
        7, registered("credit-risk", 3, tags={"team": "risk"}, run_id="r"), State.FAILED, datetime.now(UTC),
        datetime.now(UTC), 1, Queue.FRESH, reason="credit-risk is broken", hint="h", weights_digest="abc",
        artifact_uri="runs:/r", flow_run_id="f",
    )  # fmt: skip
    assert Person("eve", Role.VIEWER, ("credit-*",)).view(row) is row
    seen = Person("eve", Role.VIEWER, ("support-*",)).view(row)
    assert (seen.id, seen.state, seen.registered.ref.name) == (7, State.FAILED, HIDDEN)
    for secret in ("credit", "risk", "abc", "runs:"):
        assert secret not in repr(seen)


def listed(tmp_path: Path, text: str, name: str = "people.toml") -> Settings:
    (tmp_path / name).write_text(text)
    return Settings(access=AccessSettings(file=tmp_path / name))


@pytest.fixture
def small_team(tmp_path: Path) -> Settings:
    return listed(tmp_path, f'[people.{system_user()}]\nrole = "reviewer"\n[groups.risk]\nrole = "approver"\n')


def test_without_a_list_a_local_user_is_admin() -> None:
    assert at_terminal(Settings()) == Person(system_user(), Role.ADMIN)
    assert at_terminal(Settings(), as_="ben") == Person("ben", Role.ADMIN)
    for address in ("127.0.0.1", "::1", "localhost"):
        assert at_page(Settings(), claims=None, address=address, as_="ben") == Person("ben", Role.ADMIN)


@pytest.mark.parametrize("address", ["10.0.0.7", "example.org", "", None])
def test_without_a_list_a_remote_user_is_a_viewer(address: str | None) -> None:
    assert at_page(Settings(), claims=None, address=address, as_="ben").role is Role.VIEWER


def test_with_a_list_no_one_can_act_as_another_person(small_team: Settings) -> None:
    assert at_terminal(small_team) == Person(system_user(), Role.REVIEWER)
    with pytest.raises(AccessDenied, match="--as"):
        at_terminal(small_team, as_="ben")
    with pytest.raises(AccessDenied, match="This dashboard needs a login"):
        at_page(small_team, claims=None, address="127.0.0.1", as_="ben")


def test_a_login_is_known_by_its_groups_until_it_expires(small_team: Settings) -> None:
    claims = {
        "iss": "https://id", "sub": "1", "email": "eve@acme", "email_verified": True, "groups": ["risk"],
        "exp": time.time() + 60,
    }  # fmt: skip
    assert at_page(small_team, claims=claims, address="10.0.0.7") == Person("eve@acme", Role.APPROVER)
    with pytest.raises(AccessDenied, match="expired"):
        at_page(small_team, claims={**claims, "exp": time.time() - 1}, address="10.0.0.7")


def test_a_list_may_be_json(tmp_path: Path) -> None:
    directory = read_directory(listed(tmp_path, '{"people": {"ada": {"role": "admin"}}}', "people.json"))
    assert directory is not None
    assert directory.person("ada").role is Role.ADMIN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[people.ada]\nrole = "king"', "people.ada.role"),
        ('[people.ada]\nrole = "admin"\nmodles = ["*"]', "people.ada.modles"),
        ("[people.ada", "people.toml"),
    ],
)
def test_an_invalid_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_directory(listed(tmp_path, text))


def test_a_missing_list_denies_everyone(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        at_terminal(Settings(access=AccessSettings(file=tmp_path / "none.toml")))


def test_a_role_in_one_workspace_is_none_in_another(tmp_path: Path) -> None:
    directory = Directory.model_validate(
        {
            "people": {"ada": {"role": "admin"}, "ben": {"role": "viewer", "workspaces": ["default"]}},
            "groups": {
                "legal": {"role": "approver", "workspaces": ["legal"], "models": ["contract-*"]},
                "risk": {"role": "viewer", "workspaces": ["legal", "support-*"]},
            },
        }
    )
    groups = ["legal", "risk"]
    in_legal = directory.within("legal").person("cleo", groups)
    assert (in_legal.role, in_legal.models) == (Role.APPROVER, ("contract-*", "*"))
    assert directory.within("support-eu").person("cleo", groups).role is Role.VIEWER
    assert directory.within("legal").person("ada").role is Role.ADMIN
    assert directory.within("default").person("ben").role is Role.VIEWER
    assert directory.within("legal").person("ben", ["risk"]).role is Role.VIEWER, (
        "as one of a group that has a role there"
    )
    for name, given, workspace in (("cleo", groups, "billing"), ("ben", [], "legal"), ("cleo", groups, "default")):
        with pytest.raises(AccessDenied, match=f"{name} has no role here"):
            directory.within(workspace).person(name, given)
    file = tmp_path / "access.toml"
    file.write_text(f'[people.{system_user()}]\nrole = "viewer"\nworkspaces = ["legal"]\n')
    settings = Settings(access=AccessSettings(file=file))
    assert at_terminal(settings.within("legal")).role is Role.VIEWER
    with pytest.raises(AccessDenied):
        at_terminal(settings)


@pytest.mark.parametrize("scheme", ["models:/", "models:///", "Models:/"])
@pytest.mark.parametrize("after", ["/3", "/Production", "@champion", ""])
def test_a_base_is_named_to_people_who_may_see_its_model(scheme: str, after: str) -> None:
    viewer = Person("eve", Role.VIEWER, ("sql-base",))
    assert viewer.shown_address(f"{scheme}merger-base{after}") == HIDDEN
    assert viewer.shown_address(f"{scheme}sql-base{after}") == f"{scheme}sql-base{after}"
    assert viewer.shown_address("org/llama-3@main") == "org/llama-3@main"
