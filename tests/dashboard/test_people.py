from __future__ import annotations

from types import SimpleNamespace

import pytest

from deltadex.access import Person, Role
from deltadex.setting_groups import DatabaseSettings
from deltadex.settings import Settings
from deltadex_dashboard.reads import pages
from deltadex_dashboard.reads.snapshots import Snapshot


def test_people_who_see_the_same_models_are_not_told_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(registry="acme", database=DatabaseSettings(url="postgresql://nowhere"))
    monkeypatch.setattr(pages, "all_reviews", lambda now: [SimpleNamespace(assignee="", owner="cora")])
    for name in ("ann", "ben"):
        now = Snapshot(settings, "1", Person(name, Role.REVIEWER, ("sql-*",)))
        assert pages.people(now) == sorted([name, "cora"])
