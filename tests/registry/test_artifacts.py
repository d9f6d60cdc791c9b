"""Downloads from a real MLflow server, through a proxy that counts, delays and cuts connections."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread

import pytest

from deltadex.downloads.cache import FolderCache
from deltadex.errors import BaseNotFound, BrokenCheckpoint, RegistryError, Shortage
from deltadex.registry.artifacts import base_files, version_files
from deltadex.registry.client import Registry
from deltadex.setting_groups import SourceSettings
from tests.registering import register_folder

LARGE = 5 << 20
CONTENT = random.Random(0).randbytes(LARGE)  # noqa: S311


@dataclass
class Proxy:
    """Behaviour of the proxy in front of MLflow, and its record of requests."""

    url: str
    cuts: list[int] = field(default_factory=list)
    pause: float = 0
    barrier: Barrier | None = None
    ignore_ranges: bool = False
    corrupt: bool = False
    refuse: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def proxy(registry: Registry) -> Iterator[Proxy]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_file = "/artifacts/" in self.path
            asked = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if is_file:
                proxy.asked.append((self.path.rpartition("/")[2], self.headers["Range"]))
                if proxy.barrier:
                    proxy.barrier.wait(10)
                if proxy.refuse:
                    return self.send_error(proxy.refuse)
            wanted = {} if proxy.ignore_ranges else {"Range": self.headers["Range"]} if self.headers["Range"] else {}
            wanted |= {"Content-Type": "application/json"} if asked else {}
            request = urllib.request.Request(  # noqa: S310
                registry.tracking_uri + self.path, data=asked or None, headers=wanted, method=self.command
            )
            try:
                with urllib.request.urlopen(request) as response:  # noqa: S310
                    status, headers, body = response.status, response.headers, response.read()
            except urllib.error.HTTPError as error:
                with error:
                    status, headers, body = error.code, error.headers, error.read()
            self.send_response(status)
            for name in ("Content-Type", "Content-Length", "Content-Range"):
                if headers[name]:
                    self.send_header(name, headers[name])
            self.end_headers()
            self._send(body, is_file)
            return None

        do_POST = do_GET

        def _send(self, body: bytes, is_file: bool) -> None:
            if is_file and proxy.corrupt:
                body = bytes(len(body))
            end = proxy.cuts.pop(0) if is_file and proxy.cuts else len(body)
            for start in range(0, end, 1 << 16):
                self.wfile.write(body[start : min(end, start + (1 << 16))])
                time.sleep(proxy.pause if is_file else 0)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Killed clients are expected."""

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield proxy
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files" / "inner folder").mkdir(parents=True)
    (tmp_path / "files" / "config.json").write_text("{}")
    (tmp_path / "files" / "inner folder" / "100% weights").write_bytes(bytes(1000))
    (tmp_path / "files" / "large").write_bytes(CONTENT)
    return tmp_path / "files"


@pytest.fixture
def through(registry: Registry, proxy: Proxy) -> Registry:
    return Registry(proxy.url, name=registry.name)


def test_only_the_files_asked_for_are_fetched_and_only_once(registry: Registry, folder: Path, tmp_path: Path) -> None:
    files = version_files(registry, register_folder(registry, "one", folder), tmp_path / "fetched")
    weights = "inner folder/100% weights"
    assert files.sizes() == {"config.json": 2, weights: 1000, "large": LARGE}
    root = files.fetch([weights])
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["100% weights"]
    before = (root / weights).stat()
    assert (files.fetch([weights]) / weights).stat() == before
    with pytest.raises(BrokenCheckpoint, match="nothing"):
        files.fetch(["nothing"])


def test_a_store_on_the_local_file_system_is_read_in_place(registry: Registry, folder: Path, tmp_path: Path) -> None:
    registry = Registry(registry.tracking_uri, name=registry.name, sources=SourceSettings(folders=(tmp_path,)))
    client = registry.client
    run = client.create_run(client.create_experiment(tmp_path.name, artifact_location=(tmp_path / "store").as_uri()))
    client.log_artifacts(run.info.run_id, str(folder), artifact_path="checkpoint")
    client.create_registered_model("local")
    client.create_model_version("local", f"runs:/{run.info.run_id}/checkpoint", run_id=run.info.run_id)
    version = registry.read("local", 1)
    assert version is not None
    fetched = version_files(registry, version, tmp_path / "fetched").fetch(["large"])
    assert fetched == tmp_path / "store" / run.info.run_id / "artifacts" / "checkpoint"
    assert not (tmp_path / "fetched").exists()


def test_a_logged_model_that_was_registered_by_its_run_is_found(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    client = registry.client
    run = client.create_run("0")
    model = client.create_logged_model("0", "model", source_run_id=run.info.run_id)
    client.log_model_artifacts(model.model_id, str(folder))
    client.create_registered_model("logged")
    client.create_model_version("logged", f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
    version = registry.read("logged", 1)
    assert version is not None
    files = version_files(registry, version, tmp_path / "fetched")
    assert (files.fetch(files.sizes()) / "large").read_bytes() == CONTENT
    assert sorted(path.suffix for path in (tmp_path / "fetched.fetched").iterdir()) == [".sha256"] * 3


def test_files_are_fetched_at_the_same_time(
    registry: Registry, through: Registry, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    proxy.barrier = Barrier(3)  # holds responses until three requests have arrived
    files = version_files(through, register_folder(registry, "one", folder), tmp_path / "fetched", parallel=3)
    assert (files.fetch(files.sizes()) / "large").read_bytes() == CONTENT


def test_a_download_resumes_after_a_broken_connection(
    registry: Registry, through: Registry, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    proxy.cuts = [3 << 20, (1 << 20) + (1 << 17)]
    files = version_files(through, register_folder(registry, "one", folder), tmp_path / "fetched")
    assert (files.fetch(["large"]) / "large").read_bytes() == CONTENT
    starts = [int((asked or "bytes=0-").removeprefix("bytes=").removesuffix("-")) for _, asked in proxy.asked]
    assert len(starts) == 3
    assert 0 == starts[0] < starts[1] < starts[2]


@pytest.mark.parametrize("other", ["another file's bytes", "more bytes than there are", "a server without ranges"])
def test_a_partial_file_is_never_joined_to_another(
    registry: Registry, through: Registry, proxy: Proxy, folder: Path, tmp_path: Path, other: str
) -> None:
    files = version_files(through, register_folder(registry, "one", folder), tmp_path / "fetched")
    proxy.cuts = [2 << 20] + [0] * 3
    with pytest.raises(RegistryError) as caught:
        files.fetch(["large"])
    assert caught.value.retryable
    proxy.cuts = []
    [partial] = (tmp_path / "fetched.fetched").iterdir()
    assert partial.stat().st_size > 0
    if other == "another file's bytes":
        partial.write_bytes(bytes(2 << 20))
    elif other == "more bytes than there are":
        partial.write_bytes(CONTENT + bytes(2 << 20))
    else:
        proxy.ignore_ranges = True
    assert (files.fetch(["large"]) / "large").read_bytes() == CONTENT


def test_a_truncated_download_is_refused(registry: Registry, folder: Path, tmp_path: Path) -> None:
    version = register_folder(registry, "one", folder)
    files = version_files(registry, version, tmp_path / "fetched")
    assert files.sizes()["large"] == LARGE
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "large").write_bytes(CONTENT[:1000])
    registry.client.log_artifacts(version.run_id or "", str(tmp_path / "short"), artifact_path="checkpoint")
    with pytest.raises(BrokenCheckpoint, match=f"1000 of {LARGE} bytes") as caught:
        files.fetch(["large"])
    assert caught.value.retryable
    assert not (tmp_path / "fetched" / "large").exists()


@pytest.mark.parametrize(("status", "error"), [(403, RegistryError), (404, BrokenCheckpoint)])
def test_a_refusal_is_reported_and_not_retried(
    registry: Registry,
    through: Registry,
    proxy: Proxy,
    folder: Path,
    tmp_path: Path,
    status: int,
    error: type[RegistryError] | type[BrokenCheckpoint],
) -> None:
    files = version_files(through, register_folder(registry, "one", folder), tmp_path / "fetched")
    proxy.refuse = status
    with pytest.raises(error, match=r"config\.json") as caught:
        files.fetch(["config.json"])
    assert not caught.value.retryable


def test_a_copy_that_was_changed_is_fetched_again(
    registry: Registry, through: Registry, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    files = version_files(through, register_folder(registry, "one", folder), tmp_path / "fetched")
    copy = files.fetch(["large"]) / "large"
    [record] = (tmp_path / "fetched.fetched").iterdir()
    assert record.read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  large\n"
    os.utime(copy)  # moved or restored from a backup: read again, not fetched again
    files.fetch(["large"])
    assert len(proxy.asked) == 1
    copy.write_bytes(bytes(LARGE))
    assert (files.fetch(["large"]) / "large").read_bytes() == CONTENT
    assert len(proxy.asked) == 2


FETCH = """
import sys
from pathlib import Path
from deltadex.downloads.cache import FolderCache
from deltadex.registry.artifacts import base_files
from deltadex.registry.client import Registry
url, root = sys.argv[1:]
with FolderCache(Path(root), max_bytes=6 << 20).holding() as hold:
    print("ready", flush=True)
    base_files(Registry(url, name="acme"), "models:/base/1", hold).fetch(["large", "config.json"])
"""


def fetching(proxy: Proxy, root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", FETCH, proxy.url, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


def test_a_killed_fetch_is_resumed_by_the_next_process(
    registry: Registry, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    register_folder(registry, "base", folder)
    proxy.pause = 0.05
    process = fetching(proxy, tmp_path / "cache")
    while not any(path.stat().st_size >= 2 << 20 for path in (tmp_path / "cache").rglob("*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    proxy.pause, proxy.asked = 0, []
    cache = FolderCache(tmp_path / "cache", max_bytes=6 << 20)
    with cache.holding() as hold:
        files = base_files(Registry(proxy.url, name="acme"), "models:/base/1", hold)
        assert (files.fetch(["large", "config.json"]) / "large").read_bytes() == CONTENT
    assert dict(proxy.asked)["large"] is not None


def test_two_workers_that_need_one_base_fetch_it_once(
    registry: Registry, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    register_folder(registry, "base", folder)
    proxy.pause = 0.01
    workers = [fetching(proxy, tmp_path / "cache") for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert sorted(proxy.asked) == [("config.json", None), ("large", None)]


def test_a_registered_base_stays_in_the_cache_and_gives_way_to_the_next(
    registry: Registry, through: Registry, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    cache = FolderCache(tmp_path / "cache", max_bytes=6 << 20)
    for name in ("base", "base", "other", "base"):
        if not registry.client.search_registered_models(f"name = '{name}'"):
            register_folder(registry, name, folder)
        with cache.holding() as hold:
            assert (base_files(through, f"models:/{name}/1", hold).fetch(["large"]) / "large").is_file()
    assert len(proxy.asked) == 3
    assert sum(path.stat().st_size for path in tmp_path.glob("cache/**/large")) == LARGE


def test_a_base_too_large_for_the_cache_is_not_requested(
    registry: Registry, through: Registry, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    register_folder(registry, "base", folder)
    with FolderCache(tmp_path, max_bytes=LARGE - 1).holding() as hold:
        files = base_files(through, "models:/base/1", hold)
        with pytest.raises(Shortage, match=str(LARGE - 1)) as caught:
            files.fetch(["large"])
    assert not caught.value.retryable
    assert proxy.asked == []


@pytest.mark.parametrize("where", ["models:/base/9", "models:/base/champion"])
def test_a_base_that_is_not_registered_is_named(registry: Registry, tmp_path: Path, where: str) -> None:
    with FolderCache(tmp_path, max_bytes=1).holding() as hold, pytest.raises(BaseNotFound, match=where):
        base_files(registry, where, hold)
