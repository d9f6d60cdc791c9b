"""Login at a real OpenID provider on loopback: roles from groups, and expiry with the token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from deltadex.setting_groups import AccessSettings, DatabaseSettings, PortSettings
from deltadex.settings import Settings
from deltadex.stack import specs
from tests.conftest import unused_port
from tests.e2e.dashboards import filled_database, running
from tests.oidc_provider import provider
from tests.stored import REGISTRY

PEOPLE = """
[groups.ml-support]
role = "reviewer"

[groups.everyone]
role = "viewer"
models = ["sql-*"]

[people."ida@acme.com"]
role = "admin"
"""
USERS = (
    {"sub": "ann", "email": "ann@acme.com", "email_verified": True, "groups": ["everyone", "ml-support"]},
    {"sub": "vic", "email": "vic@acme.com", "email_verified": True, "groups": ["everyone"]},
    {"sub": "eve", "email": "eve@elsewhere.com", "email_verified": True, "groups": ["outside"]},
    {"sub": "mal", "email": "ida@acme.com", "email_verified": False, "groups": []},
)
#: Longer than a test takes to look around, and short enough to wait for its end.
TOKEN_SECONDS = 15

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def address(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a dashboard listens whose people come from groups, and whose logins from a provider."""
    url, folder = filled_database(postgres_url, "login"), tmp_path_factory.mktemp("login")
    (folder / "people.toml").write_text(PEOPLE)
    settings = Settings(
        data_dir=folder,
        registry=REGISTRY,
        database=DatabaseSettings(url=url, role="deltadex_reader"),
        access=AccessSettings(file=folder / "people.toml"),
        ports=PortSettings(dashboard=unused_port()),
    )
    with provider(USERS, TOKEN_SECONDS) as issuer:
        spec = specs.dashboard(settings)
        (folder / "secrets.toml").write_text(
            f"""[auth]
redirect_uri = "{spec.url}/oauth2callback"
cookie_secret = "only-for-this-test-only-for-this-test"
client_id = "deltadex"
client_secret = "secret"
server_metadata_url = "{issuer}/.well-known/openid-configuration"
"""
        )
        secrets = {"STREAMLIT_SECRETS_FILES": str(folder / "secrets.toml")}
        with running(replace(spec, env={**spec.env, **secrets}), folder) as url:
            yield url


@pytest.fixture
def visit(address: str, browser: Browser) -> Iterator[Visit]:
    """Open a page in a browser that nobody has logged in with."""
    contexts = []

    def visit(path: str = "inbox") -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 1000}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{address}/{path}")
        return page

    yield visit
    for context in contexts:
        context.close()


def log_in(page: Page, user: str) -> None:
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name=user, exact=True).click()


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="End session").click()
    expect(page.get_by_text("This dashboard needs a login")).to_be_visible(timeout=60_000)


def test_a_persons_groups_decide_what_they_may_and_a_login_leads_to_the_link(visit: Visit) -> None:
    page, complaints = visit("inbox?finding=1"), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    expect(page.get_by_text("This dashboard needs a login")).to_be_visible(timeout=60_000)
    log_in(page, "ann")
    expect(page.get_by_text("ann@acme.com, reviewer", exact=True)).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Assign to me")).to_be_visible(timeout=60_000)
    assert page.url.endswith("/inbox?finding=1")
    page.get_by_role("link", name="Overview", exact=True).first.click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible(timeout=60_000)
    assert complaints == []
    log_out(page)


def test_a_viewer_decides_nothing_and_a_stranger_sees_nothing(visit: Visit) -> None:
    page = visit("inbox?finding=1")
    log_in(page, "vic")
    expect(page.get_by_text("reviewers decide")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Assign to me")).to_have_count(0)
    stranger = visit()
    log_in(stranger, "eve")
    expect(stranger.get_by_text("eve@elsewhere.com has no role here")).to_be_visible(timeout=60_000)
    log_out(stranger)


def test_an_address_that_the_provider_has_not_verified_opens_nothing(visit: Visit) -> None:
    page = visit()
    log_in(page, "mal")
    expect(page.get_by_text("#mal has no role here")).to_be_visible(timeout=60_000)
    log_out(page)


def test_an_open_page_is_closed_when_its_login_expires(visit: Visit) -> None:
    page = visit()
    log_in(page, "ann")
    expect(page.get_by_text("ann@acme.com, reviewer", exact=True)).to_be_visible(timeout=60_000)
    expect(page.get_by_text("The login has expired")).to_be_visible(timeout=(TOKEN_SECONDS + 30) * 1000)
    expect(page.get_by_text("ann@acme.com, reviewer", exact=True)).to_have_count(0)
    log_in(page, "ann")
    expect(page.get_by_text("ann@acme.com, reviewer", exact=True)).to_be_visible(timeout=60_000)
