"""The page of a shard's flow run."""

from __future__ import annotations

from prefect import flow
from prefect.settings import temporary_settings

from deltadex.app import App
from deltadex.types import State
from deltadex.versions import queries as versions
from deltadex_flows.scheduler import prefect_settings
from deltadex_flows.shard import Progress
from tests.flow_pages import latest_page
from tests.stored import discovered


def test_the_page_lists_the_versions_with_links_to_the_dashboard(app: App) -> None:
    settings = app.settings.model_copy(update={"dashboard_url": "https://deltadex.example"})
    with app.database.transaction() as tx:
        row = versions.get(tx, discovered(tx, "sql [writer]", registry=app.registry.name))

    @flow(name="reports-a-shard")
    def report() -> None:
        progress = Progress(settings.version_link)
        progress.begin(1)
        progress.end(row, State.EMBEDDED, "")
        progress.publish()

    with temporary_settings(prefect_settings(settings)):
        report()
    address = "https://deltadex.example/model?model=sql+%5Bwriter%5D&version=1"
    assert latest_page(settings, "deltadex-shard") == rf"- [sql \[writer\]/1](<{address}>): embedded"
