"""Registration of folders on a real MLflow server."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltadex.errors import RegistryError
from deltadex.registry.artifacts import version_files
from deltadex.registry.client import Registry
from deltadex.registry.registration import register_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    return folder


def test_a_folder_becomes_the_next_version_with_its_files_and_tags(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    name = 'it\'s [red]"both"<b>'
    first, second = (register_folder(registry, name, folder, tags={"deltadex.parents": '["a/1"]'}) for _ in range(2))
    assert (first.ref.version, second.ref.version) == (1, 2)
    assert first.run_id != second.run_id
    assert second.tags["deltadex.parents"] == '["a/1"]'
    fetched = version_files(registry, second, tmp_path / "fetched").fetch(["adapter_config.json"])
    assert (fetched / "adapter_config.json").read_text() == "{}"
    run = registry.run_of(second)
    assert run is not None
    assert run.info.status == "FINISHED"


def test_a_name_that_mlflow_refuses_is_an_error_and_leaves_no_run(registry: Registry, folder: Path) -> None:
    experiment = registry.client.get_experiment_by_name("deltadex")
    before = len(registry.client.search_runs([experiment.experiment_id])) if experiment else 0
    with pytest.raises(RegistryError, match="registering a/b failed"):
        register_folder(registry, "a/b", folder, tags={})
    experiment = registry.client.get_experiment_by_name("deltadex")
    assert (len(registry.client.search_runs([experiment.experiment_id])) if experiment else 0) == before
