"""From a registered version to files on this machine: what is held, kept and removed; and what is found there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deltadex import discovery, fetching, pipeline, reviews
from deltadex.domain import FindingKind, State, VersionRow
from deltadex.errors import BaseNotFound, EmbeddingError
from deltadex.governance.access import Person, Role
from deltadex.services import Services
from deltadex.store import findings, versions
from tests import tiny_models
from tests.hub_mirror import NAME, running_mirror
from tests.registering import register_folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.build_base(tmp_path / "base")


@pytest.fixture
def adapter(services: Services, base: Path, tmp_path: Path) -> VersionRow:
    """A registered adapter that declares `acme/base-7b`."""
    folder = tmp_path / "adapter"
    tiny_models.build_adapter(base, folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": NAME}))
    version = register_folder(services.registry, "one", folder)
    discovery.poll(services)
    with services.database.transaction() as tx:
        [row] = versions.find(tx, services.registry.name, "one", version.ref.version)
    return row


def with_settings(services: Services, **changes: object) -> Services:
    return replace(services, settings=services.settings.model_copy(update=changes))


def weights_in(services: Services) -> list[str]:
    return sorted(path.name for path in (services.settings.cache_dir / "folders").rglob("*.safetensors"))


def test_a_base_that_nobody_mapped_comes_from_the_hub_mirror_and_stays(
    services: Services, adapter: VersionRow, base: Path
) -> None:
    with running_mirror(base) as mirror:
        services = with_settings(services, hub_url=mirror.url)
        with fetching.workspace(services, adapter) as hold:
            resolved = fetching.resolve(services, adapter, hold)
            assert resolved.base_name == NAME
            assert weights_in(services) == []
            fetching.fetch(services, resolved)
            assert weights_in(services) == ["adapter_model.safetensors", "model.safetensors"]
    assert weights_in(services) == ["model.safetensors"]


def test_without_a_hub_mirror_nothing_is_downloaded(services: Services, adapter: VersionRow) -> None:
    with fetching.workspace(services, adapter) as hold, pytest.raises(BaseNotFound, match=NAME):
        fetching.resolve(services, adapter, hold)


def test_a_mapped_base_is_not_looked_up_at_the_mirror(services: Services, adapter: VersionRow, base: Path) -> None:
    services = with_settings(services, hub_url="http://127.0.0.1:9", bases={NAME: str(base)})
    with fetching.workspace(services, adapter) as hold:
        assert fetching.resolve(services, adapter, hold).base.files.where == str(base)


def test_a_base_whose_licence_nobody_knows_is_a_finding_until_it_says_so(
    services: Services, adapter: VersionRow, base: Path
) -> None:
    review = services.settings.review.model_copy(update={"licenses": ("apache-2.0",)})
    services = with_settings(services, bases={NAME: str(base)}, review=review)

    def found() -> list[FindingKind]:
        with fetching.workspace(services, adapter) as hold:
            pipeline.check_license(services, adapter, fetching.resolve(services, adapter, hold))
        with services.database.transaction() as tx:
            return [row.finding.kind for row in findings.listing(tx, services.registry.name)]

    assert found() == [FindingKind.LICENSE]
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert found() == []


def test_a_run_that_died_leaves_its_files_to_the_next(services: Services, adapter: VersionRow, base: Path) -> None:
    services = with_settings(services, bases={NAME: str(base)})

    def die() -> None:
        with fetching.workspace(services, adapter) as hold:
            fetching.resolve(services, adapter, hold).checkpoint.fetch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert weights_in(services) == ["adapter_model.safetensors"]
    with fetching.workspace(services, adapter):
        pass
    assert weights_in(services) == []


def test_what_failed_is_under_review_at_once(services: Services, adapter: VersionRow) -> None:
    pipeline.begin(services, adapter.id, attempt=1, flow_run_id="f")
    assert pipeline.give_up(services, adapter, EmbeddingError("not finite")) is State.FAILED
    with services.database.transaction() as tx:
        [row] = reviews.listing(tx, Person("ada", Role.ADMIN), services.settings)
    assert (row.finding.kind, row.finding.evidence["reason"]) == (FindingKind.FAILED, "not finite")
