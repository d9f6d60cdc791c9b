"""A flow run that is killed after any of its steps, and run again, ends like one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltadex.app import App
from deltadex.embeddings import queries as embeddings
from deltadex.engine import shared
from deltadex.findings import queries as findings
from deltadex.ingest import discovery
from deltadex.types import State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests import tiny_models
from tests.registering import register_folder

pytestmark = pytest.mark.slow

STEPS = ("begin", "resolve", "fetch", "embed", "write back", "store and find")
#: Takes the steps of the flow, and dies after the one that it is told.
_RUN = """
import os, signal, sys
from deltadex.app import open_app
from deltadex.engine import shared
from deltadex.ingest import embed, record, resolve
from deltadex.settings import load_settings

def done(step):
    if step == last:
        os.kill(os.getpid(), signal.SIGKILL)

data_dir, database, mlflow, prefect, base, version_id, attempt, last = sys.argv[1:]
settings = load_settings(data_dir=data_dir, database={"url": database}, tracking_uri=mlflow, prefect_api_url=prefect,
                         registry="acme", bases={base: base})
with open_app(settings) as app, shared.embedding_process(settings) as process:
    row = embed.begin(app, int(version_id), attempt=int(attempt), flow_run_id="f")
    done("begin")
    with embed.heartbeats_of(app, row), resolve.workspace(app, row) as hold:
        resolved = resolve.resolve(app, process, row, hold)
        done("resolve")
        fetched = resolve.fetch(app, process, resolved, hold)
        done("fetch")
        value = embed.embed(process, fetched, deadline_seconds=120)
        done("embed")
        uri = embed.write_back(app, resolved.version, value, base_name=resolved.base_name, fit=fetched.fit, seconds={})
        done("write back")
        record.store_and_find(app, [record.Embedded(row, value, resolved.base_name, uri)])
        done("store and find")
"""


def test_a_run_killed_after_each_step_and_run_again_leaves_one_embedding(app: App, tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    app = replace(app, settings=app.settings.model_copy(update={"bases": {str(base): str(base)}}))

    def run(version_id: int, *, attempt: int, last: str) -> int:
        settings = app.settings
        urls = (settings.database_url, settings.tracking_uri, settings.prefect_api_url)
        arguments = (settings.data_dir, *urls, base, version_id, attempt, last)
        return subprocess.run([sys.executable, "-c", _RUN, *map(str, arguments)], check=False).returncode

    try:
        for step in STEPS:
            tiny_models.build_adapter(base, tmp_path / step)
            version = register_folder(app.registry, step.replace(" ", "-"), tmp_path / step)
            discovery.poll(app)
            with app.database.transaction() as tx:
                [row] = versions.find(tx, app.registry.name, version.ref.name)
            assert run(row.id, attempt=1, last=step) == -signal.SIGKILL
            if step != STEPS[-1]:
                with app.database.transaction() as tx:
                    transitions.requeue(tx, row.id, reason="its flow run died", died=True)
                assert run(row.id, attempt=2, last="") == 0
            with app.database.transaction() as tx:
                assert versions.get(tx, row.id).state is State.EMBEDDED
                [stored] = embeddings.of_version(tx, row.id)
                found = [one.finding for one in findings.listing(tx, app.registry.name, version_id=row.id)]
            assert np.isfinite(stored.vector).all()
            assert len(found) == len({(one.kind, one.other_id) for one in found})
            folders = app.registry.client.list_artifacts(version.run_id, f"deltadex/{version.ref.name}-v1")
            assert len(folders) == 1
    finally:
        shared.end_embedding_process(app.settings)
