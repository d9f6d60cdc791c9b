"""Prefect blocks on a real server."""

from __future__ import annotations

import numpy as np
from prefect.settings import temporary_settings
from pydantic import SecretStr

from deltadex.app import App
from deltadex_flows.blocks import DeltadexStore
from deltadex_flows.scheduler import prefect_settings
from tests.stored import embedded


def test_a_flow_of_others_reads_the_store_by_the_name_of_a_block(app: App) -> None:
    with app.database.transaction() as tx:
        embedded(tx, "one", np.eye(16)[0], registry=app.registry.name)
        embedded(tx, "two", np.eye(16)[0] + 0.1, registry=app.registry.name)
    with temporary_settings(prefect_settings(app.settings)):
        store = DeltadexStore(database_url=SecretStr(app.settings.database_url), registry=app.registry.name)
        store.save("company", overwrite=True)
        with DeltadexStore.load("company").connect() as registry:
            [neighbor] = registry.neighbors("one/1").neighbors
    assert neighbor.version.label == "two/1"
