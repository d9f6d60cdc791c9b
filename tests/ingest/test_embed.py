"""From a registered version to local files: fetched, kept and removed files, and their inspection."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deltadex.access import Person, Role
from deltadex.app import App
from deltadex.engine.client import EmbeddingProcess
from deltadex.errors import BaseNotFound, EmbeddingError, IncompleteCheckpoint, NoLanguageModel
from deltadex.findings import queries as findings
from deltadex.ingest import discovery, embed, resolve
from deltadex.ingest.machines import resume
from deltadex.metrics import queries as metrics
from deltadex.reviews import actions as reviews
from deltadex.types import FindingKind, State, VersionRow
from deltadex.versions import license_queries as licenses
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from deltadex.versions.license_queries import DeclaredLicenses
from tests import tiny_models
from tests.hub_mirror import NAME, running_mirror
from tests.registering import register_folder


@pytest.fixture(scope="module")
def process() -> Iterator[EmbeddingProcess]:
    with EmbeddingProcess(threads=1) as process:
        yield process


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.build_base(tmp_path / "base")


@pytest.fixture
def adapter(app: App, base: Path, tmp_path: Path) -> VersionRow:
    """A registered adapter that declares `acme/base-7b`."""
    folder = tmp_path / "adapter"
    tiny_models.build_adapter(base, folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": NAME}))
    version = register_folder(app.registry, "one", folder)
    discovery.poll(app)
    with app.database.transaction() as tx:
        [row] = versions.find(tx, app.registry.name, "one", version.ref.version)
    return row


def with_settings(app: App, **changes: object) -> App:
    return replace(app, settings=app.settings.model_copy(update=changes))


def weights_in(app: App) -> list[str]:
    return sorted(path.name for path in (app.settings.cache_dir / "folders").rglob("*.safetensors"))


def test_a_base_that_nobody_mapped_comes_from_the_hub_mirror_and_stays(
    app: App, process: EmbeddingProcess, adapter: VersionRow, base: Path
) -> None:
    with running_mirror(base) as mirror:
        app = with_settings(app, hub_url=mirror.url)
        with resolve.workspace(app, adapter) as hold:
            resolved = resolve.resolve(app, process, adapter, hold)
            assert resolved.base_name == NAME
            assert weights_in(app) == []
            resolve.fetch(app, process, resolved, hold)
            assert weights_in(app) == ["adapter_model.safetensors", "model.safetensors"]
        assert weights_in(app) == ["model.safetensors"]
        with resolve.workspace(app, adapter) as hold:
            resolve.fetch(app, process, resolve.resolve(app, process, adapter, hold), hold)
    with app.database.transaction() as tx:
        steps = {work.name: work.count for work in metrics.read(tx, app.registry.name).work}
    assert steps == {"base": 2, "base download": 1}, "the second run found it in the cache"


def test_without_a_hub_mirror_nothing_is_downloaded(app: App, process: EmbeddingProcess, adapter: VersionRow) -> None:
    with resolve.workspace(app, adapter) as hold, pytest.raises(BaseNotFound, match=NAME):
        resolve.resolve(app, process, adapter, hold)


def test_a_mapped_base_is_not_looked_up_at_the_mirror(
    app: App, process: EmbeddingProcess, adapter: VersionRow, base: Path
) -> None:
    app = with_settings(app, hub_url="http://127.0.0.1:9", bases={NAME: str(base)})
    with resolve.workspace(app, adapter) as hold:
        assert resolve.resolve(app, process, adapter, hold).base.files.where == str(base)


def test_a_base_whose_licence_nobody_knows_is_a_finding_until_it_says_so(
    app: App, process: EmbeddingProcess, adapter: VersionRow, base: Path
) -> None:
    review = app.settings.review.model_copy(update={"licenses": ("apache-2.0",)})
    app = with_settings(app, bases={NAME: str(base)}, review=review)

    def found() -> tuple[list[FindingKind], DeclaredLicenses]:
        with resolve.workspace(app, adapter) as hold:
            embed.note_resolved(app, adapter, resolve.resolve(app, process, adapter, hold))
        with app.database.transaction() as tx:
            kinds = [row.finding.kind for row in findings.listing(tx, app.registry.name)]
            return kinds, licenses.of_version(tx, adapter.id)

    with app.database.transaction() as tx:
        assert licenses.of_version(tx, adapter.id) == DeclaredLicenses(None, None), "not read yet"
    assert found() == ([FindingKind.LICENSE], DeclaredLicenses("", ""))
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert found() == ([], DeclaredLicenses("", "apache-2.0"))


def test_a_run_that_died_leaves_its_files_to_the_next(
    app: App, process: EmbeddingProcess, adapter: VersionRow, base: Path
) -> None:
    app = with_settings(app, bases={NAME: str(base)})

    def die() -> None:
        with resolve.workspace(app, adapter) as hold:
            resolve.resolve(app, process, adapter, hold).checkpoint.fetch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert weights_in(app) == ["adapter_model.safetensors"]
    with resolve.workspace(app, adapter):
        pass
    assert weights_in(app) == []


def test_files_that_are_missing_are_waited_for_while_a_version_is_new(
    app: App, process: EmbeddingProcess, adapter: VersionRow, base: Path, tmp_path: Path
) -> None:
    app = with_settings(app, bases={NAME: str(base)})
    (tmp_path / "early").mkdir()
    shutil.copy(tmp_path / "adapter" / "adapter_config.json", tmp_path / "early")
    register_folder(app.registry, "early", tmp_path / "early")
    discovery.poll(app)
    with app.database.transaction() as tx:
        [row] = versions.find(tx, app.registry.name, "early", 1)

    def reason(app: App) -> IncompleteCheckpoint:
        with resolve.workspace(app, row) as hold, pytest.raises(IncompleteCheckpoint) as caught:
            resolve.resolve(app, process, row, hold)
        return caught.value

    assert reason(app).retryable
    no_patience = app.settings.watch.model_copy(update={"upload_seconds": 0})
    assert not reason(with_settings(app, watch=no_patience)).retryable


_RUN = """
import sys, time
from deltadex.app import open_app
from deltadex.ingest import embed
from deltadex.settings import load_settings

data_dir, database, mlflow, prefect, version_id = sys.argv[1:]
settings = load_settings(data_dir=data_dir, database={"url": database}, tracking_uri=mlflow, prefect_api_url=prefect)
with open_app(settings) as app:
    row = embed.begin(app, int(version_id), attempt=1, flow_run_id="f")
    with embed.heartbeats_of(app, row):
        print("running", flush=True)
        time.sleep(300)
"""


def test_a_run_that_was_declared_dead_ends_by_itself(app: App, adapter: VersionRow) -> None:
    settings = app.settings
    urls = (settings.database_url, settings.tracking_uri, settings.prefect_api_url)
    arguments = [settings.data_dir, *urls, adapter.id]
    command = [sys.executable, "-c", _RUN, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "running\n"
        with app.database.transaction() as tx:
            transitions.requeue(tx, adapter.id, reason="silent", died=True)
        assert run.wait(timeout=60) == 1


@pytest.mark.parametrize(("tags", "state"), [({}, State.SKIPPED), ({"deltadex.base": "acme/base"}, State.UNSUPPORTED)])
def test_a_model_of_another_kind_is_a_state_and_no_review(
    app: App, adapter: VersionRow, tags: dict[str, str], state: State
) -> None:
    row = replace(adapter, registered=replace(adapter.registered, tags=tags))
    embed.begin(app, adapter.id, attempt=1, flow_run_id="f")
    error = NoLanguageModel("churn/1 is an MLflow model of flavour sklearn", hint="Register language models.")
    assert embed.give_up(app, row, error) is state
    with app.database.transaction() as tx:
        found = reviews.listing(tx, Person("ada", Role.ADMIN), app.settings)
    assert [one.finding.kind for one in found] == ([] if state is State.SKIPPED else [FindingKind.UNSUPPORTED])


def test_a_full_disk_is_waited_for_and_every_other_surprise_is_a_bug(app: App, adapter: VersionRow) -> None:
    full = embed.stated(OSError(errno.ENOSPC, "No space left on device"), adapter)
    assert embed.give_up(app, adapter, full) is State.WAITING
    assert resume(app) == 1
    row = app.database.run(lambda tx: versions.get(tx, adapter.id))
    assert (row.state, row.attempt) == (State.DISCOVERED, 2)
    surprise = embed.stated(OSError(errno.EIO, "Input/output error"), row)
    assert "bug" in surprise.hint
    assert embed.give_up(app, row, surprise) is State.FAILED


def test_what_failed_is_under_review_at_once(app: App, adapter: VersionRow) -> None:
    embed.begin(app, adapter.id, attempt=1, flow_run_id="f")
    assert embed.give_up(app, adapter, EmbeddingError("not finite")) is State.FAILED
    with app.database.transaction() as tx:
        [row] = reviews.listing(tx, Person("ada", Role.ADMIN), app.settings)
    assert (row.finding.kind, row.finding.evidence["reason"]) == (FindingKind.FAILED, "not finite")
