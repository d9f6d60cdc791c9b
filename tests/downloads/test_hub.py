"""Downloads of bases from a hub mirror over HTTP."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.cache import FolderCache
from deltadex.downloads.hub import hub_files, is_hub_name
from deltadex.errors import BaseNotFound, BrokenCheckpoint
from tests import tiny_models
from tests.hub_mirror import NAME, Mirror, running_mirror


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with running_mirror(tiny_models.build_base(tmp_path / "base")) as mirror:
        yield mirror


@pytest.fixture
def cache(tmp_path: Path) -> FolderCache:
    return FolderCache(tmp_path / "cache", max_bytes=10 << 20)


def test_a_base_is_inspected_by_its_configs_and_fetched_at_one_commit(mirror: Mirror, cache: FolderCache) -> None:
    with cache.holding() as hold:
        checkpoint = inspect(hub_files(f"{mirror.url}/", NAME, hold))
        assert not any("safetensors" in asked for asked in mirror.asked)
        [weights] = checkpoint.fetch().weight_files
        assert weights.read_bytes() == (mirror.folder / "model.safetensors").read_bytes()


def test_it_stays_in_the_cache_until_the_mirror_has_another_commit(mirror: Mirror, cache: FolderCache) -> None:
    for commit, asked in [("a" * 40, 1), ("a" * 40, 1), ("b" * 40, 2)]:
        mirror.commit = commit
        with cache.holding() as hold:
            hub_files(mirror.url, NAME, hold).fetch(["config.json"])
        assert mirror.asked.count("config.json") == asked


def test_an_interrupted_file_is_resumed_from_the_mirrors_storage(mirror: Mirror, cache: FolderCache) -> None:
    (mirror.folder / "model.safetensors").write_bytes(content := bytes(range(256)) * (3 << 12))
    with cache.holding() as hold:
        files = hub_files(mirror.url, NAME, hold)
        folder = files.fetch(["config.json"])
        [record] = folder.with_name("files.fetched").iterdir()
        name = hashlib.sha256(b"model.safetensors").hexdigest()[:32]
        record.with_name(f"{name}.part").write_bytes(content[: 2 << 20])
        assert (files.fetch(["model.safetensors"]) / "model.safetensors").read_bytes() == content
    assert mirror.asked[-1] == f"/storage/model.safetensors bytes={1 << 20}-"


def test_a_file_with_another_digest_than_listed_is_refused(mirror: Mirror, cache: FolderCache) -> None:
    mirror.wrong_digest = True
    with cache.holding() as hold, pytest.raises(BrokenCheckpoint, match="SHA-256") as caught:
        hub_files(mirror.url, NAME, hold).fetch(["model.safetensors"])
    assert caught.value.retryable


def test_a_name_that_the_mirror_does_not_have_is_not_found(mirror: Mirror, cache: FolderCache) -> None:
    with cache.holding() as hold, pytest.raises(BaseNotFound, match="acme/other") as caught:
        hub_files(mirror.url, "acme/other", hold)
    assert not caught.value.retryable
    assert "DELTADEX_BASES" in caught.value.hint


def test_the_machines_token_is_sent_and_never_shown(
    mirror: Mirror, cache: FolderCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.token = "hf_secret"
    url = mirror.url.replace("//", "//user:password@")
    with cache.holding() as hold:
        with pytest.raises(BaseNotFound) as caught:
            hub_files(url, NAME, hold)
        assert "HF_TOKEN" in caught.value.hint
        assert "password" not in caught.value.message
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        hub_files(mirror.url, NAME, hold).fetch(["config.json"])


@pytest.mark.parametrize("away", ["answers 503", "refuses connections"])
def test_an_unreachable_mirror_is_a_retryable_error(mirror: Mirror, cache: FolderCache, away: str) -> None:
    mirror.down = True
    url = mirror.url if away == "answers 503" else "http://127.0.0.1:9"
    with cache.holding() as hold, pytest.raises(BaseNotFound, match=NAME) as caught:
        hub_files(url, NAME, hold)
    assert caught.value.retryable
    assert "DELTADEX_HUB_URL" in caught.value.hint


def test_our_mirror_answers_the_hubs_own_client(mirror: Mirror) -> None:
    code = """if True:
        import sys
        from huggingface_hub import HfApi
        info = HfApi(endpoint=sys.argv[1]).model_info("acme/base-7b", files_metadata=True, revision="main")
        print(info.sha, *(file.lfs.sha256 for file in info.siblings if file.lfs))
    """
    client = subprocess.run(
        [sys.executable, "-c", code, mirror.url], env={}, check=True, capture_output=True, text=True
    )
    digest = hashlib.sha256((mirror.folder / "model.safetensors").read_bytes()).hexdigest()
    assert client.stdout.split() == [mirror.commit, digest]


OFFLINE = """
import sys
from pathlib import Path
import huggingface_hub
from deltadex.downloads.cache import FolderCache
from deltadex.downloads.hub import hub_files
assert huggingface_hub.is_offline_mode()
with FolderCache(Path(sys.argv[2]), max_bytes=1 << 20).holding() as hold:
    print(hub_files(sys.argv[1], "acme/base-7b", hold).fetch(["config.json"]))
"""


def test_a_configured_mirror_is_used_although_offline_mode_is_set(mirror: Mirror, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OFFLINE, mirror.url, str(tmp_path / "cache")]
    folder = subprocess.run(command, env={"HF_HUB_OFFLINE": "1"}, check=True, capture_output=True, text=True).stdout
    assert (Path(folder.strip()) / "config.json").is_file()


@pytest.mark.parametrize("name", ["acme/base-7b", "meta-llama/Llama-3.1-8B", "a/b"])
def test_hub_names_are_recognised(name: str) -> None:
    assert is_hub_name(name)


@pytest.mark.parametrize(
    "name", ["base", "/srv/base", "../base", "a/..", "models:/a/1", "a/b/c", "a/b?x", "a--b/c", "./a"]
)
def test_paths_and_uris_are_not_hub_names(name: str) -> None:
    assert not is_hub_name(name)
