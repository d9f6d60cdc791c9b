"""Who is at the terminal or at a page."""

from __future__ import annotations

import getpass
import time
from pathlib import Path

import pytest

from deltadex.errors import AccessDenied, SettingsError
from deltadex.governance.access import Person, Role
from deltadex.people import at_page, at_terminal, read_directory
from deltadex.settings import AccessSettings, Settings


def listed(tmp_path: Path, text: str, name: str = "people.toml") -> Settings:
    (tmp_path / name).write_text(text)
    return Settings(access=AccessSettings(file=tmp_path / name))


@pytest.fixture
def small_team(tmp_path: Path) -> Settings:
    return listed(tmp_path, f'[people.{getpass.getuser()}]\nrole = "reviewer"\n[groups.risk]\nrole = "approver"\n')


def test_without_a_list_whoever_sits_at_this_machine_is_its_admin() -> None:
    assert at_terminal(Settings()) == Person(getpass.getuser(), Role.ADMIN)
    assert at_terminal(Settings(), as_="ben") == Person("ben", Role.ADMIN)
    for address in ("127.0.0.1", "::1", "localhost"):
        assert at_page(Settings(), claims=None, address=address, as_="ben") == Person("ben", Role.ADMIN)


@pytest.mark.parametrize("address", ["10.0.0.7", "example.org", "", None])
def test_without_a_list_whoever_comes_from_elsewhere_only_looks(address: str | None) -> None:
    assert at_page(Settings(), claims=None, address=address, as_="ben").role is Role.VIEWER


def test_with_a_list_nobody_is_somebody_else(small_team: Settings) -> None:
    assert at_terminal(small_team) == Person(getpass.getuser(), Role.REVIEWER)
    with pytest.raises(AccessDenied, match="--as"):
        at_terminal(small_team, as_="ben")
    with pytest.raises(AccessDenied, match="Nobody is logged in"):
        at_page(small_team, claims=None, address="127.0.0.1", as_="ben")


def test_a_login_is_known_by_its_groups_until_it_expires(small_team: Settings) -> None:
    claims = {"email": "eve@acme", "groups": ["risk"], "exp": time.time() + 60}
    assert at_page(small_team, claims=claims, address="10.0.0.7") == Person("eve@acme", Role.APPROVER)
    with pytest.raises(AccessDenied, match="expired"):
        at_page(small_team, claims={**claims, "exp": time.time() - 1}, address="10.0.0.7")


def test_a_list_may_be_json(tmp_path: Path) -> None:
    directory = read_directory(listed(tmp_path, '{"people": {"ada": {"role": "admin"}}}', "people.json"))
    assert directory is not None
    assert directory.person("ada").role is Role.ADMIN


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[people.ada]\nrole = "king"', "people.ada.role"),
        ('[people.ada]\nrole = "admin"\nmodles = ["*"]', "people.ada.modles"),
        ("[people.ada", "people.toml"),
    ],
)
def test_a_list_that_says_something_else_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_directory(listed(tmp_path, text))


def test_a_missing_list_lets_nobody_in(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        at_terminal(Settings(access=AccessSettings(file=tmp_path / "none.toml")))
