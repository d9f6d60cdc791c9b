"""Decisions about groups in a real browser: two people, named targets, refused keepers, a drift's cause, a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from psycopg.conninfo import make_conninfo

from deltadex.findings import queries as findings
from deltadex.reviews import actions as reviews
from deltadex.reviews import queries as review_rows
from deltadex.reviews.tags import tags_of
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from deltadex.versions import record_queries as training_records
from tests.dashboard.company import DIMENSION
from tests.e2e.dashboards import Visit, dashboard, visitors
from tests.stored import REGISTRY, embedded

EXACT, DRIFT = FindingKind.EXACT_DUPLICATE, FindingKind.DRIFT
SETTINGS = Settings(registry=REGISTRY)
SLOW = 60_000


def alike(tx: Transaction, axis: int, *versions: dict[str, object]) -> list[int]:
    """Return the ids of versions with equal weights, the oldest first, judged as on arrival."""
    ids = [
        embedded(tx, str(one.pop("name")), np.eye(DIMENSION)[axis], weights=f"same-{axis}", created_ms=place, **one)
        for place, one in enumerate(versions, start=axis * 100)
    ]
    for place, newer in enumerate(ids):
        found = [Finding(EXACT, newer, older) for older in ids[:place]]
        findings.replace(tx, found, version_id=newer, recipe_id=None, kinds=[EXACT])
    return ids


def prepare(tx: Transaction) -> None:
    """Add a group for each rule that stands in the way of a keeper, and what a drifting model's runs had logged."""
    alike(tx, 10, {"name": "kept", "aliases": ("champion",)}, {"name": "spare"}, {"name": "other"})
    drifted, _ = alike(tx, 11, {"name": "drifted"}, {"name": "sound"})
    drift = Finding(DRIFT, drifted, measure=0.9, threshold=0.5)
    findings.replace(tx, [drift], version_id=drifted, recipe_id=None, kinds=[DRIFT])
    alike(tx, 12, {"name": "outdated"}, {"name": "current"})
    embedded(tx, "outdated", np.eye(DIMENSION)[13], version=2, created_ms=5_000)
    alike(tx, 14, {"name": "used", "aliases": ("champion",)}, {"name": "served", "tags": {"deployed": "eu"}})
    alike(tx, 15, {"name": "original"}, {"name": "twin", "aliases": ("champion",)})
    embedded(tx, "copied", np.eye(DIMENSION)[13] * 2, source="models:/original/1", created_ms=6_000)
    for version, data in ((2, "translation-2"), (3, "legal-2")):
        [version_id] = tx.execute(
            "select id from model_versions where (name, version) = ('storefront-localizer', %s)", [version]
        ).fetchone()
        training_records.save(tx, version_id, {"data": {"dataset": data}})
    reviews.follow(tx, SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("group_page", numbered=False)


@pytest.fixture(scope="module")
def address(postgres_url: str, folder: Path) -> Iterator[str]:
    """Where a dashboard on a filled store listens."""
    with dashboard(postgres_url, folder, prepare=prepare) as at:
        yield at


@pytest.fixture
def visit(address: str, browser: Browser) -> Iterator[Visit]:
    with visitors(address, browser) as visit:
        yield visit


def open_group(visit: Visit, name: str, *, person: str = "ann", width: int = 1280) -> Page:
    """Find a group by words in the inbox, and open it."""
    page = visit(f"inbox?as={person}&kind=Same weights&text={name}", width=width)
    page.get_by_role("link", name="Review", exact=True).first.click()
    page.wait_for_url(re.compile("finding="))
    expect(page.get_by_role("heading", name="Decision")).to_be_visible(timeout=SLOW)
    return page


def ask(page: Page, *, keeper: str | None = None) -> None:
    page.get_by_text("Accept: it needs action").click()
    expect(page.get_by_text("A second person must approve")).to_be_visible(timeout=SLOW)
    if keeper is not None:
        page.get_by_role("combobox", name="Keep").click()
        page.get_by_role("option", name=re.compile(rf"^{keeper}.1")).click()
    say(page, "One is enough.", "Ask for approval")


def say(page: Page, text: str, button: str) -> None:
    box = page.get_by_label("Comment")
    box.fill(text)
    box.press("Control+Enter")
    page.get_by_role("button", name=button, exact=True).click()


def test_two_people_decide_a_group_whose_targets_are_named_at_each_step(
    visit: Visit, postgres_url: str, folder: Path
) -> None:
    decision = "keep kept/1 (is in use as champion), retire spare/1, other/1"
    ann = open_group(visit, "spare")
    expect(ann.get_by_role("heading", name="spare/1 and other/1 have the same weights as kept/1")).to_be_visible()
    ask(ann)
    expect(ann.get_by_text(f"ann asks to {decision}")).to_be_visible(timeout=SLOW)
    expect(ann.get_by_role("button", name="Approve")).to_have_count(0)

    bob = visit(ann.url.partition("/inbox")[2].replace("as=ann", "as=bob").join(("inbox", "")))
    expect(bob.get_by_text(f"ann asks to {decision}")).to_be_visible(timeout=SLOW)
    say(bob, "Agreed.", "Approve")
    expect(bob.get_by_text("The decision is recorded.")).to_be_visible(timeout=SLOW)
    expect(visit("duplicates").get_by_text(decision).first).to_be_visible(timeout=SLOW)
    with Database(make_conninfo(postgres_url, dbname=folder.name)) as database, database.transaction() as tx:
        [row] = [row for row in review_rows.listing(tx, REGISTRY, kinds=[EXACT]) if row.review.status == "accepted"]
        tags = {version.label: tags_of([row], version.id) for version in row.members}
    roles = {label: re.findall(r"\((.+)\)", *tags.values()) for label, tags in tags.items()}
    assert roles == {"kept/1": ["keep"], "spare/1": ["retire"], "other/1": ["retire"]}


@pytest.mark.parametrize(
    ("keeper", "refusal", "advice"),
    [
        ("drifted", "drifted/1 has an open finding (drift)", "Keep sound/1"),
        ("outdated", "outdated/1 has a later version", "Keep current/1"),
        ("served", "nothing can be retired: used/1 is in use as champion", "Move the alias or the deployment first"),
        ("twin", "nothing can be retired: original/1 is needed elsewhere", "Leave it as it is"),
    ],
)
def test_a_keeper_that_is_not_safe_is_refused_with_the_rule(
    visit: Visit, keeper: str, refusal: str, advice: str
) -> None:
    page = open_group(visit, keeper)
    ask(page, keeper=keeper)
    alert = page.get_by_test_id("stAlert").filter(has_text=refusal)
    expect(alert.last).to_be_visible(timeout=SLOW)
    expect(alert.last).to_contain_text(advice)


def test_a_drift_says_its_cause_first(visit: Visit) -> None:
    page = visit("inbox?kind=Drift&text=storefront")
    expect(page.get_by_text("dataset: translation-2 → legal-2").first).to_be_visible(timeout=SLOW)


def test_a_group_is_decided_on_a_phone_and_back_returns_to_the_filters(visit: Visit) -> None:
    page = open_group(visit, "sound", width=390)
    expect(page.get_by_text("Accept: it needs action")).to_be_visible()
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "nothing makes the page wider than the phone"
    page.go_back()
    expect(page.get_by_role("textbox", name="Search")).to_have_value("sound", timeout=SLOW)
