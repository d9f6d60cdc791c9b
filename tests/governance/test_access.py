"""Who may do what, and what they see."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from deltadex.domain import Queue, State, VersionRow
from deltadex.errors import AccessDenied
from deltadex.governance.access import HIDDEN, Directory, Person, Right, Role, from_claims
from tests.store.examples import registered

DIRECTORY = Directory.model_validate(
    {
        "people": {"ada@acme": {"role": "admin"}},
        "groups": {
            "ml": {"role": "reviewer", "models": ["support-*"]},
            "risk": {"role": "approver", "models": ["credit-*"]},
        },
    }
)
NOW = 1_000.0


def login(**claims: object) -> Person:
    return from_claims(DIRECTORY, {"exp": NOW + 1, **claims}, now=NOW, name_claim="email", groups_claim="groups")


@pytest.mark.parametrize(("role", "right"), [*itertools.product(Role, Right)])
def test_each_role_may_what_those_below_it_may(role: Role, right: Right) -> None:
    person = Person("ada", role)
    assert person.may(right) == (list(Role).index(role) >= list(Right).index(right))
    if not person.may(right):
        with pytest.raises(AccessDenied, match=f"ada is a {role} and may not {right}"):
            person.require(right)


def test_groups_add_up_and_an_entry_of_ones_own_goes_first() -> None:
    assert login(email="eve@acme", groups=["ml", "risk", "x"]) == Person(
        "eve@acme", Role.APPROVER, ("support-*", "credit-*")
    )
    assert login(email="ada@acme", groups=["ml"]) == Person("ada@acme", Role.ADMIN)


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"email": "eve@acme"}, "eve@acme has no role"),
        ({"email": "eve@acme", "groups": "ml"}, "eve@acme has no role"),
        ({"email": "ada@acme", "exp": NOW}, "expired"),
        ({"email": "ada@acme", "exp": None}, "expired"),
        ({"email": ""}, "no 'email'"),
        ({}, "no 'email'"),
    ],
)
def test_a_login_that_has_expired_or_names_nobody_is_refused(claims: dict[str, object], says: str) -> None:
    with pytest.raises(AccessDenied, match=says):
        login(**claims)


def test_what_a_person_may_not_see_is_there_without_its_name() -> None:
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
