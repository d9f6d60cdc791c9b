"""The cache with real processes: size limit, eviction order, entries in use, killed processes."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltadex.downloads.cache import Entry, FolderCache
from deltadex.errors import Resource, SettingsError, Shortage


def fill(entry: Entry, size: int, name: str = "content") -> None:
    with entry.writing() as reserve:
        reserve(size)
        (entry.folder / name).write_bytes(bytes(size))


def put(cache: FolderCache, key: str, size: int) -> None:
    with cache.entry(key) as entry:
        fill(entry, size)


def kept(cache: FolderCache, key: str) -> bool:
    with cache.entry(key) as entry:
        return (entry.folder / "content").is_file()


def bytes_in(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("content*"))


def test_written_files_are_there_at_the_next_use_and_for_others(tmp_path: Path) -> None:
    put(FolderCache(tmp_path / "cache", max_bytes=1000), "a/b:c d", 10)
    with FolderCache(tmp_path / "cache", max_bytes=1000).entry("a/b:c d") as entry:
        assert (entry.folder / "content").read_bytes() == bytes(10)


@pytest.mark.parametrize("key", ["", "/", "..", "../../x", "a\0b", "x" * 5000, "ä/ö", "a b", "a-b"])
def test_any_key_stays_inside_and_is_apart_from_others(tmp_path: Path, key: str) -> None:
    cache = FolderCache(tmp_path / "cache", max_bytes=10_000)
    put(cache, "a/b", 7)
    put(cache, key, 8)
    assert {path.stat().st_size for path in tmp_path.rglob("content")} == {7, 8}
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]
    assert all(path.parent == tmp_path / "cache" for path in (tmp_path / "cache").iterdir())


def test_the_least_recently_used_entry_is_evicted_first(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path / "cache", max_bytes=3100)
    for key in "abc":
        put(cache, key, 1000)
    assert kept(cache, "a")
    put(cache, "d", 1000)
    assert [kept(cache, key) for key in "abcd"] == [True, False, True, True]


def test_discarding_removes_only_unused_entries(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path / "cache", max_bytes=1000)
    cache.discard("never there")
    with cache.entry("a") as entry:
        fill(entry, 10)
        cache.discard("a")
        assert (entry.folder / "content").is_file()
    cache.discard("a")
    assert not kept(cache, "a")


def test_holding_keeps_all_entries_until_the_end(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path / "cache", max_bytes=2100)
    with cache.holding() as hold:
        fill(hold("a"), 1000)
        fill(hold("b"), 1000)
        assert hold("a") is hold("a")
        with pytest.raises(Shortage) as caught:
            put(cache, "c", 1000)
        assert not caught.value.retryable  # our own entry is in the way
        assert "DELTADEX_CACHE__MAX_BYTES" in caught.value.hint
    put(cache, "c", 1000)
    assert sorted([kept(cache, "a"), kept(cache, "b")]) == [False, True]


def test_an_impossible_request_evicts_nothing_and_names_the_setting(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path / "cache", max_bytes=2000)
    put(cache, "a", 1000)
    with pytest.raises(Shortage, match="2001 bytes") as caught:
        put(cache, "b", 2001)
    assert not caught.value.retryable
    assert (caught.value.resource, caught.value.more_than) == (Resource.DISK, 2000)
    assert "DELTADEX_CACHE__MAX_BYTES" in caught.value.hint
    assert kept(cache, "a")
    assert cache.capacity() == 2000


def test_more_than_the_disk_has_is_refused_before_anything_is_evicted(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path / "cache", max_bytes=1 << 62)
    put(cache, "a", 1000)
    with pytest.raises(Shortage, match="disk") as caught, cache.entry("b") as entry, entry.writing() as reserve:
        reserve(shutil.disk_usage(tmp_path).total + 1)
    assert not caught.value.retryable
    assert kept(cache, "a")


def test_a_disk_that_fills_up_while_writing_is_a_shortage(tmp_path: Path) -> None:
    with FolderCache(tmp_path, max_bytes=1000).entry("a") as entry:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        with (
            pytest.raises(Shortage, match="full") as caught,
            entry.writing(),
            Path("/dev/full").open("wb", buffering=0) as full,
        ):
            full.write(b"x")
    assert caught.value.hint


@contextmanager
def other_process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs code with a cache; given once it has reported that it is ready."""
    prelude = "import sys, time\nfrom pathlib import Path\nfrom deltadex.downloads.cache import FolderCache\n"
    prelude += "from deltadex.errors import DeltadexError\n"
    process = subprocess.Popen(
        [sys.executable, "-c", prelude + code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


USE = """
with FolderCache(Path(sys.argv[1]), max_bytes=2100).entry("a"):
    print("ready", flush=True)
    time.sleep(60)
"""
RESERVE = """
with FolderCache(Path(sys.argv[1]), max_bytes=2100).entry("a") as entry, entry.writing() as reserve:
    reserve(1500)
    (entry.folder / "content").write_bytes(bytes(100))
    print("ready", flush=True)
    time.sleep(60)
"""


def test_an_entry_used_by_another_process_is_not_evicted_until_it_is_killed(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, max_bytes=2100)
    put(cache, "a", 1000)
    with other_process(USE, tmp_path):
        put(cache, "b", 1000)
        put(cache, "c", 1000)
        assert [kept(cache, key) for key in "abc"] == [True, False, True]
        with pytest.raises(SettingsError) as caught:
            put(cache, "d", 2000)
        assert caught.value.retryable
    put(cache, "d", 2000)
    assert not kept(cache, "a")


def test_another_processs_reservation_counts_until_it_is_killed(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, max_bytes=2100)
    with other_process(RESERVE, tmp_path), pytest.raises(SettingsError) as caught:
        put(cache, "b", 1000)
    assert caught.value.retryable
    put(cache, "b", 1000)
    assert kept(cache, "a")


def test_writers_of_one_entry_wait_for_each_other(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, max_bytes=2100)
    with other_process(RESERVE.replace("60", "0.5"), tmp_path), cache.entry("a") as entry, entry.writing() as reserve:
        assert (entry.folder / "content").stat().st_size == 100
        reserve(2000)


def test_an_eviction_that_was_killed_halfway_is_finished_by_the_next(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, max_bytes=2100)
    put(cache, "a", 1000)
    [home] = [path for path in tmp_path.iterdir() if path.is_dir()]
    home.rename(tmp_path / ".evicted-killed")
    put(cache, "b", 2000)
    assert bytes_in(tmp_path) == 2000


def test_the_folder_of_a_half_created_entry_is_no_obstacle(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, max_bytes=2100)
    put(cache, "a", 1000)
    (tmp_path / "0123456789abcdef-b").mkdir()
    put(cache, "c", 2000)
    assert not (tmp_path / "0123456789abcdef-b").exists()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(0, 5), st.integers(0, 60)),
        st.tuples(st.just("hold"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("release"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("discard"), st.integers(0, 5), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=200)
@given(STEPS)
def test_it_behaves_like_an_lru_cache_with_pinned_entries(steps: list[tuple[str, int, int]]) -> None:
    """Compared with a model: an ordered dict from least to most recently used."""
    limit = 100
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ours, other = (FolderCache(Path(folder), max_bytes=limit) for _ in range(2))
        pins: dict[int, ExitStack] = {}
        model: dict[int, int] = {}
        for action, key, size in steps:
            if action == "hold" and key not in pins:
                pins[key] = stack.enter_context(ExitStack())
                pins[key].enter_context(other.entry(str(key)))
                model[key] = model.pop(key, 0)
            elif action == "release" and key in pins:
                pins.pop(key).close()
                model[key] = model.pop(key)
            elif action == "discard":
                ours.discard(str(key))
                if key not in pins:
                    model.pop(key, None)
            elif action == "use":
                held = model.pop(key, 0)
                model[key] = held
                more = max(0, size - held)
                fits = held + more <= limit
                for oldest in [each for each in model if each not in pins and each != key] if fits else []:
                    if sum(model.values()) + more <= limit:
                        break
                    del model[oldest]
                fits = fits and sum(model.values()) + more <= limit
                try:
                    with ours.entry(str(key)) as entry, entry.writing() as reserve:
                        reserve(more)
                        (entry.folder / "content").write_bytes(bytes(held + more))
                    assert fits
                    model[key] = held + more
                except (SettingsError, Shortage):
                    assert not fits
            assert bytes_in(Path(folder)) == sum(model.values()) <= limit


WORK = """
import os, random
cache = FolderCache(Path(sys.argv[1]), max_bytes=20_000)
rng, own = random.Random(int(sys.argv[2])), f"content{os.getpid()}"
print("ready", flush=True)
while True:
    try:
        with cache.entry(f"key {rng.randrange(12)}") as entry:
            with entry.writing() as reserve:
                if sum(file.stat().st_size for file in entry.folder.iterdir()) < 10_000:
                    reserve(4000)
                    for _ in range(4):
                        with (entry.folder / own).open("ab") as file:
                            file.write(bytes(rng.randrange(1000)))
            before = {file: file.stat() for file in entry.folder.glob(own)}
            time.sleep(rng.random() * 0.005)
            assert {file: file.stat() for file in entry.folder.glob(own)} == before, "evicted while it was in use"
    except DeltadexError as error:
        assert error.retryable, error.message
"""


@pytest.mark.slow
def test_workers_that_are_killed_at_any_point_break_neither_bound_nor_entries(tmp_path: Path) -> None:
    """Six real processes, one of them killed with SIGKILL and replaced every few milliseconds."""
    rng, numbers = random.Random(0), iter(range(1000))  # noqa: S311
    with ExitStack() as everything:
        workers: list[tuple[ExitStack, subprocess.Popen[str]]] = []

        def start() -> None:
            stack = everything.enter_context(ExitStack())
            workers.append((stack, stack.enter_context(other_process(WORK, tmp_path, next(numbers)))))

        for _ in range(6):
            start()
        for _ in range(40):
            time.sleep(rng.random() * 0.05)
            assert [process.poll() for _, process in workers] == [None] * 6
            assert bytes_under_the_lock(tmp_path) <= 20_000
            workers.pop(rng.randrange(6))[0].close()
            start()
    cache = FolderCache(tmp_path, max_bytes=20_000)
    put(cache, "last", 20_000)
    assert bytes_in(tmp_path) == 20_000


def bytes_under_the_lock(root: Path) -> int:
    """Count while eviction is locked out; writers continue within their reservations."""
    with (root / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = [path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir()]
        files = [Path(folder, name) for entry in entries for folder, _, names in os.walk(entry) for name in names]
        return sum(file.stat().st_size for file in files if file.name.startswith("content"))
