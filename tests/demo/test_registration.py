from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest

from deltadex.bases.declared import declared_base
from deltadex.checkpoints.inspect import Kind, inspect
from deltadex.demo.company import Company, CompanyInTraining, Model
from deltadex.demo.registration import bases, register, stated_time
from deltadex.demo.specification import Method, Packaging
from deltadex.errors import RegistryError
from deltadex.registry.artifacts import version_files
from deltadex.registry.client import Registry
from deltadex.settings import Settings


def test_a_company_is_registered_once_and_its_checkpoints_can_be_read_back(
    servers: Settings, registry: Registry, tiny_company: Company, tmp_path: Path
) -> None:
    registered = register(tiny_company, servers.mlflow_uri)
    assert register(tiny_company, servers.mlflow_uri) == registered
    assert len(registry.client.search_model_versions()) == len(registered) == len(set(registered))
    for model in tiny_company.models:
        wanted = model.version
        version = registry.read(wanted.name, wanted.version)
        assert version is not None
        assert version.run_id
        assert version.tags["team"] == wanted.team
        assert ("synthetic" in version.tags) == wanted.synthetic
        assert version.tags.get("license") == wanted.license
        assert version.source.startswith("models:/m-" if wanted.packaging is Packaging.LOGGED_MODEL else "runs:/")
        if wanted.init:
            continue
        checkpoint = inspect(version_files(registry, version, tmp_path / wanted.label))
        assert declared_base(checkpoint, version.tags) == wanted.declared_base
        assert checkpoint.kind == (Kind.ADAPTER if wanted.method is Method.ADAPTER else Kind.FULL)
    assert {model.version.method for model in tiny_company.models} == set(Method)


def test_the_registrations_are_spread_over_the_past_weeks_in_their_order_and_become_more() -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    times = [stated_time(number, 40, now=now) for number in range(1, 41)]
    assert times == sorted(times)
    assert (now - times[0], times[-1]) == (timedelta(weeks=11), now)
    half = times[0] + timedelta(weeks=11) / 2
    assert 0 < sum(time < half for time in times) < sum(time >= half for time in times)
    assert {(now - time).days // 7 for time in times} == set(range(12)), "no week is empty"


def test_a_tag_states_when_each_version_was_registered_and_never_changes(
    servers: Settings, registry: Registry, tiny_company: Company
) -> None:
    registered = register(tiny_company, servers.mlflow_uri)
    before = [registry.read(*label).demo_registered_at for label in registered]
    assert None not in before
    assert before == sorted(before)
    register(tiny_company, servers.mlflow_uri)
    assert [registry.read(*label).demo_registered_at for label in registered] == before
    run = registry.client.get_run(registry.read(*registered[0]).run_id)
    assert not [tag for tag in run.data.tags if tag.startswith("deltadex.demo")], "the run was not made then"


def test_each_model_is_registered_before_the_next_one_is_trained(
    servers: Settings, registry: Registry, tiny_company: Company
) -> None:
    def models() -> Iterator[Model]:
        for model in tiny_company.models:
            assert registry.read(model.version.name, model.version.version) is None
            yield model
            assert registry.read(model.version.name, model.version.version) is not None

    begun = CompanyInTraining(tiny_company.name, tiny_company.bases, tiny_company.count, models())
    assert len(register(begun, servers.mlflow_uri)) == len(tiny_company.bases) + tiny_company.count


def test_the_bases_are_where_the_mapping_says(servers: Settings, registry: Registry, tiny_company: Company) -> None:
    registered = register(tiny_company, servers.mlflow_uri)
    assert {f"models:/{name}/{version}" for name, version in registered} >= set(bases().values())
    assert bases().keys() == tiny_company.bases.keys()


def test_another_company_in_the_same_registry_is_refused(
    servers: Settings, registry: Registry, tiny_company: Company
) -> None:
    register(tiny_company, servers.mlflow_uri)
    with pytest.raises(RegistryError, match="other-0"):
        register(replace(tiny_company, name="other-0"), servers.mlflow_uri)


def test_registering_leaves_the_process_as_it_was(servers: Settings, registry: Registry, tiny_company: Company) -> None:
    before = mlflow.get_tracking_uri(), dict(os.environ), logging.getLogger("mlflow").level
    register(tiny_company, servers.mlflow_uri)
    assert (mlflow.get_tracking_uri(), dict(os.environ), logging.getLogger("mlflow").level) == before
