"""The command `watch`: the process that finds new versions."""

from __future__ import annotations

import logging
import signal
import threading

from deltadex.cli.options import DatabaseUrl, DataDir, PrefectUrl, TrackingUri, settings_from


def watch(
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Poll the registry, listen for its webhook, and start a flow run for each new version."""
    from deltadex.app import open_app
    from deltadex.ingest import watcher

    settings = settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )
    logging.getLogger("deltadex").setLevel(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_app(settings) as app:
        watcher.watch(app, stop)
