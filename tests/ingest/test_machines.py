"""Versions that are too large for a machine wait for one that fits, and for no other."""

from __future__ import annotations

from uuid import UUID

import pytest
import torch

from deltadex.app import App
from deltadex.engine.failures import as_deltadex_error
from deltadex.errors import Resource, Shortage
from deltadex.ingest import embed, machines, submit
from deltadex.machine import gpu_bytes, smallest_of
from deltadex.machine_limits import limits
from deltadex.settings import Settings
from deltadex.types import State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from deltadex_flows import run_tags
from tests.flows.test_scheduler import client_of
from tests.stored import discovered


def sized(app: App, memory_bytes: int) -> App:
    """The same services on a machine with this much memory."""
    embedding = app.settings.embedding.model_copy(update={"memory_bytes": memory_bytes})
    settings = app.settings.model_copy(update={"embedding": embedding})
    return App(settings, app.database, app.registry, app.scheduler)


def report(app: App) -> None:
    app.database.run(lambda tx: machines.report(tx, app.settings))


def gone(app: App) -> None:
    app.database.run(lambda tx: tx.execute("update machines set seen_at = now() - interval '3 minutes'"))


def row_of(app: App, version_id: int) -> VersionRow:
    return app.database.run(lambda tx: versions.get(tx, version_id))


@pytest.fixture
def waiting(app: App) -> VersionRow:
    """A version for which 1,000 bytes of memory were not enough."""
    app.scheduler.deploy()
    version_id = app.database.run(lambda tx: discovered(tx, registry=app.registry.name))
    shortage = Shortage("too large", hint="give it more", resource=Resource.MEMORY, more_than=1000)
    assert embed.give_up(app, row_of(app, version_id), shortage) is State.WAITING
    return row_of(app, version_id)


def test_a_machine_says_what_it_can_hold_until_it_is_gone(app: App) -> None:
    report(sized(app, 500))
    report(sized(app, 700))
    [machine] = app.database.run(lambda tx: machines.online(tx, app.registry.name))
    assert machine.limits == dict(limits(sized(app, 700).settings))
    gone(app)
    assert app.database.run(lambda tx: machines.online(tx, app.registry.name)) == []


def test_a_version_goes_to_a_machine_that_is_larger_than_the_one_that_failed(app: App, waiting: VersionRow) -> None:
    report(sized(app, 1000))
    assert (machines.resume(app), submit.submit_waiting(app)) == (0, 0)
    report(sized(app, 1001))
    assert (machines.resume(app), submit.submit_waiting(app)) == (1, 1)
    row = row_of(app, waiting.id)
    assert (row.state, row.attempt, row.deaths, row.reason) == (
        State.QUEUED,
        2,
        0,
        "a machine with more memory is there",
    )
    with client_of(app) as client:
        run = client.read_flow_run(UUID(row.flow_run_id))
    assert run.work_queue_name == "large"
    assert [run_tags.fits(run.tags, {Resource.MEMORY: size}) for size in (1000, 1001)] == [False, True]


def test_a_version_whose_machine_has_gone_waits_again(app: App, waiting: VersionRow) -> None:
    report(sized(app, 1001))
    assert (machines.resume(app), submit.submit_waiting(app)) == (1, 1)
    queued = row_of(app, waiting.id)
    gone(app)
    assert machines.resume(app) == 0
    row = row_of(app, waiting.id)
    assert (row.state, row.lacking, row.more_than) == (State.WAITING, Resource.MEMORY, 1000)
    assert app.scheduler.dead_runs([queued.flow_run_id]) == {queued.flow_run_id}
    report(sized(app, 1001))
    assert (machines.resume(app), submit.submit_waiting(app)) == (1, 1)


def test_a_version_that_was_too_large_for_a_gpu_goes_to_a_larger_one_or_to_none(app: App) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...")
    shortage = as_deltadex_error(error, context="acme/base could not be run")
    assert isinstance(shortage, Shortage)
    assert (shortage.resource, shortage.more_than) == (Resource.GPU, gpu_bytes() or 0)
    app.scheduler.deploy()
    version_id = app.database.run(lambda tx: discovered(tx, registry=app.registry.name))
    shortage.more_than = 24e9
    assert embed.give_up(app, row_of(app, version_id), shortage) is State.WAITING
    tags = run_tags.needs(row_of(app, version_id))
    assert not run_tags.fits(tags, {Resource.GPU: 24e9})
    assert run_tags.fits(tags, {Resource.GPU: 80e9})
    assert run_tags.fits(tags, limits(without_gpu(app)))  # in main memory, which has a limit of its own


def without_gpu(app: App) -> Settings:
    return app.settings.model_copy(update={"embedding": app.settings.embedding.model_copy(update={"device": "cpu"})})


def test_the_smallest_gpu_counts() -> None:
    assert smallest_of("143771\n81559\n") == 81559 << 20
    assert smallest_of("[N/A]\n") is None


def test_whoever_starts_it_over_has_any_machine_try_it(app: App, waiting: VersionRow) -> None:
    app.database.run(lambda tx: transitions.requeue(tx, waiting.id, reason="ada asked for it"))
    row = row_of(app, waiting.id)
    assert (row.lacking, row.more_than, run_tags.needs(row)) == (None, 0, [])


def test_other_tags_of_a_run_are_no_limits() -> None:
    assert run_tags.fits(["model:memory>9", "backfill", "base:acme/disk>1"], {Resource.MEMORY: 1, Resource.DISK: 1})
    assert run_tags.base_of(["backfill", *run_tags.of_base("acme/base:7b")]) == "acme/base:7b"
    assert run_tags.base_of(["backfill", *run_tags.of_base(None)]) is None
