"""Shards: many versions in one run, each of which ends on its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from deltadex.access import Person, Role
from deltadex.app import App
from deltadex.embeddings import queries as embeddings
from deltadex.engine.client import EmbeddingProcess
from deltadex.findings import queries as findings
from deltadex.ingest import discovery, shard, submit
from deltadex.ingest.reconcile import reconcile
from deltadex.types import FindingKind, State, VersionRow
from deltadex.versions import queries as versions
from deltadex.versions import shards
from tests import tiny_models
from tests.registering import register_folder

ALICE = Person("alice", Role.ADMIN)
Register = Callable[..., None]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        name: tiny_models.build_base(folder / name.replace("/", "-"), seed=seed)
        for seed, name in enumerate(("acme/one", "acme/two"))
    }


@pytest.fixture
def company(app: App, bases: dict[str, Path], data_dir: Path) -> App:
    """A registry whose bases are known, and a scheduler whose runs no worker takes."""
    known = {name: str(folder) for name, folder in bases.items()}
    limits = app.settings.shards.model_copy(update={"fresh_alone": 0})
    watch = app.settings.watch.model_copy(update={"upload_seconds": 0})
    app.scheduler.deploy()
    ours = {"bases": known, "shards": limits, "watch": watch, "data_dir": data_dir}
    return replace(app, settings=app.settings.model_copy(update=ours))


@pytest.fixture
def register(company: App, bases: dict[str, Path], tmp_path: Path) -> Register:
    """Register an adapter of a base."""

    def new(name: str, base: str = "acme/one", *, seed: int = 0, damaged: bool = False) -> None:
        folder = tiny_models.build_adapter(bases[base], tmp_path / f"{name}-{seed}", seed=seed)
        config = folder / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base}))
        if damaged:
            weights = folder / "adapter_model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-100])
        register_folder(company.registry, name, folder)

    return new


def cut(app: App) -> list[shards.Shard]:
    """Let discovery and submission make shards."""
    discovery.poll(app)
    submit.submit_waiting(app)
    return app.database.run(lambda tx: shards.open_shards(tx, app.registry.name))


def rows(app: App) -> dict[str, VersionRow]:
    listed = app.database.run(lambda tx: versions.listing(tx, app.registry.name))
    return {row.registered.ref.name: row for row in listed}


def run(app: App, one: shards.Shard) -> Counter[State]:
    done = shard.embed_shard(app, one.id, flow_run_id=one.flow_run_id or "")
    assert done is not None
    return done


def test_each_version_of_a_shard_ends_on_its_own(company: App, register: Register) -> None:
    for seed in range(4):
        register(f"good-{seed}", seed=seed)
    register("copy", seed=1)
    register("damaged", seed=9, damaged=True)
    register("other", "acme/two")
    [one] = cut(company)
    assert one.size == 7
    assert {row.flow_run_id for row in rows(company).values()} == {one.flow_run_id}

    assert run(company, one) == {State.EMBEDDED: 5, State.FAILED: 1, State.QUEUED: 1}
    ended = rows(company)
    assert "adapter_model.safetensors" in ended["damaged"].reason
    assert ended["damaged"].hint
    tagged = company.registry.read("good-0", 1)
    assert tagged is not None
    assert tagged.tags["deltadex.state"] == "embedded"
    with company.database.transaction() as tx:
        copies = findings.listing(tx, company.registry.name, kinds=[FindingKind.EXACT_DUPLICATE])
        [stored] = embeddings.of_version(tx, ended["good-0"].id)
    assert len(copies) == 1
    assert not list((company.settings.cache_dir / "folders").rglob("adapter_model.safetensors"))

    assert (ended["other"].state, ended["other"].attempt) == (State.DISCOVERED, 1), (
        "one adapter is not worth loading a base"
    )
    [two] = cut(company)
    assert two.base == "acme/two"
    assert run(company, two) == {State.EMBEDDED: 1}
    with company.database.transaction() as tx:
        [other] = embeddings.of_version(tx, rows(company)["other"].id)
    assert other.recipe.digest != stored.recipe.digest
    assert np.isfinite(other.vector).all()


def test_a_shard_that_has_ended_is_not_run_again(company: App, register: Register) -> None:
    register("one")
    [one] = cut(company)
    assert run(company, one) == {State.EMBEDDED: 1}
    assert shard.embed_shard(company, one.id, flow_run_id=one.flow_run_id or "") is None


def test_versions_join_a_shard_until_its_run_begins(company: App, register: Register) -> None:
    register("one")
    [first] = cut(company)
    register("two")
    [same] = cut(company)
    assert (same.id, same.size) == (first.id, 2)
    company.database.run(lambda tx: shards.begin(tx, first.id, flow_run_id=first.flow_run_id or ""))
    register("three")
    assert [one.size for one in cut(company)] == [2, 1]


def test_a_shard_has_one_base_where_it_is_known(company: App, register: Register) -> None:
    register("first")
    register("second", "acme/two")
    [mixed] = cut(company)
    assert mixed.base is None
    run(company, mixed)
    register("first", seed=5)
    register("second", "acme/two", seed=5)
    assert {one.base for one in cut(company)} == {"acme/one", "acme/two"}, "as their earlier versions have"


def test_a_death_counts_only_against_the_versions_in_the_engine(company: App, register: Register) -> None:
    for seed in range(3):
        register(f"model-{seed}", seed=seed)
    [one] = cut(company)
    first, *others = sorted(rows(company).values(), key=lambda row: row.id)
    with company.database.transaction() as tx:
        shards.begin(tx, one.id, flow_run_id=one.flow_run_id or "")
        assert shards.mark_running(tx, one.id, {first.id: first.attempt}) == {first.id}
    company.scheduler.crash(one.flow_run_id or "", reason="for the test")
    done = reconcile(company)
    assert (done.revived, done.given_up) == (1, 0)
    submit.submit_waiting(company)
    after = {row.id: row for row in rows(company).values()}
    assert (after[first.id].attempt, after[first.id].deaths, after[first.id].shard_id) == (2, 1, None)
    assert after[first.id].state is State.QUEUED, "in a run of its own"
    assert {(after[row.id].attempt, after[row.id].deaths) for row in others} == {(1, 0)}
    assert len({after[row.id].shard_id for row in others} - {one.id, None}) == 1, "in another shard"


def test_a_version_that_kills_the_engine_is_the_only_one_to_blame(
    company: App, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        register(f"model-{seed}", seed=seed)
    [one] = cut(company)
    original = EmbeddingProcess.embed

    def killed(self, base, finetunes, **options):  # type: ignore[no-untyped-def]
        """Kill the child whenever one model is among those to embed."""
        if any(one.checkpoint.name == "model-1/1" for one in finetunes):
            for child in psutil.Process(self.pid).children():
                child.kill()
        return original(self, base, finetunes, **options)

    monkeypatch.setattr(EmbeddingProcess, "embed", killed)
    run(company, one)
    after = rows(company)
    assert {name for name, row in after.items() if row.state is State.EMBEDDED} >= {"model-0", "model-2"}


def test_what_a_person_asks_for_meanwhile_leaves_the_shard(company: App, register: Register) -> None:
    register("one")
    [one] = cut(company)
    with company.database.transaction() as tx:
        submit.retry(tx, ALICE, rows(company)["one"])
    assert run(company, one) == {}
    row = rows(company)["one"]
    assert (row.state, row.attempt, row.shard_id) == (State.DISCOVERED, 2, None)


def test_a_shard_without_time_leaves_its_versions_to_others(company: App, register: Register) -> None:
    register("one")
    [one] = cut(company)
    hurried = company.settings.shards.model_copy(update={"max_seconds": 1e-9})
    company = replace(company, settings=company.settings.model_copy(update={"shards": hurried}))
    assert run(company, one) == {State.QUEUED: 1}
    assert rows(company)["one"].state is State.DISCOVERED


def test_few_fresh_versions_have_runs_of_their_own(company: App, register: Register) -> None:
    alone = company.settings.shards.model_copy(update={"fresh_alone": 2})
    company = replace(company, settings=company.settings.model_copy(update={"shards": alone}))
    register("one")
    register("two")
    assert cut(company) == []
    assert {row.state for row in rows(company).values()} == {State.QUEUED}
    register("three")
    assert [one.size for one in cut(company)] == [1]


def test_a_base_keeps_the_dtype_of_its_first_embedding(
    company: App, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "_RETRY_SECONDS", ())

    def computing_in(dtype: str) -> App:
        embedding = company.settings.embedding.model_copy(update={"compute_dtype": dtype})
        return replace(company, settings=company.settings.model_copy(update={"embedding": embedding}))

    register("first", seed=1)
    [one] = cut(company)
    assert run(company, one) == {State.EMBEDDED: 1}
    register("second", seed=2)
    [one] = cut(company)
    assert run(computing_in("bfloat16"), one) == {State.DISCOVERED: 1}
    refused = rows(company)["second"]
    assert "acme/one were embedded in float32" in refused.reason
    assert refused.deaths == 1  # it counts: nothing is tried for ever
    register("third", seed=3)
    embedded = sum(run(computing_in("auto"), one)[State.EMBEDDED] for one in cut(company))
    [recipe] = company.database.run(lambda tx: embeddings.recipes(tx, company.registry.name))
    assert recipe.embedded == 1 + embedded > 1
