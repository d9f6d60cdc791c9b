"""Recall, speed and size of the store with 10,000 versions or more, compared with its targets and with alternatives.

The vectors are synthetic: nested clusters, with noise in the upper dimensions (`benchmarks.synthetic_vectors`). All
searches use the same vectors in the same run, one client at a time, after a few queries for warming up:

- ours, `deltadex.search.neighbors`, after `deltadex db index` if the store needs it;
- pgvector's exact scan of a plain table;
- pgvector's `binary_quantize` in an HNSW index, with a re-rank of 200 by full vectors, and iterative scans for filters;
- FAISS, an inverted file of full vectors in memory, if it is installed: `.venv/bin/pip install faiss-cpu`.

    python -m benchmarks.store [--quick] [--json FILE] [--versions N …] [--dimension D] [--folder FOLDER]

A million versions of 1,024 dimensions take 20 GB of disk while it runs; of 4,096 dimensions, 80 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import store_load, store_rivals
from benchmarks.store_company import LIMIT, REGISTRY, TEAMS, Company, load, scratch_database
from benchmarks.store_rivals import Search
from benchmarks.synthetic_vectors import SyntheticVectors
from deltadex.search import indexes
from deltadex.search import neighbors as search

OURS, _WIDTH = "deltadex", 140
#: Needed disk space in sizes of the vectors: their file, the store, the plain table, its index, the write-ahead log.
_DISK = 5
#: Number of queries by exact scan, which are slow.
_SCANS = 20
#: Maximum number of versions for recomputing all near duplicates, which takes quadratic time.
_RECOMPUTED_UP_TO = 100_000


@dataclass(frozen=True)
class Answers:
    """Results of one search method.

    Attributes
    ----------
    recall
        Share of the true neighbours that were found.
    p50, p95
        Wall time of a query in milliseconds.
    cpu
        CPU milliseconds of client and server per query; comparable even on a busy machine.
    """

    recall: float
    p50: float
    p95: float
    cpu: float


@dataclass(frozen=True)
class Target:
    """Targets for up to `versions` versions: recall, and milliseconds of a search and of storing a version."""

    versions: int
    recall: float
    p50: float
    p95: float
    store_p50: float


TARGETS = (Target(10_000, 1.0, 10, 20, 50), Target(100_000, 0.99, 10, 20, 60), Target(1_000_000, 0.99, 20, 40, 100))
FILTER_RECALL, FILTER_P95, LOAD_ROWS, SHARE = 0.97, 60, 2_000, 0.4


@dataclass
class Result:
    """Measurements for one number of versions.

    Attributes
    ----------
    answers
        By search method, then by team; "" means no filter.
    build_seconds
        Build time of the index by search method.
    beyond_vectors
        Size of the database without the vectors, as a share of theirs.
    recomputed
        Seconds, and peak memory in bytes including mapped files, of recomputing all near duplicates.
    """

    versions: int
    dimension: int
    rows_per_second: float = 0.0
    beyond_vectors: float = 0.0
    store_p50: float = 0.0
    answers: dict[str, dict[str, Answers]] = field(default_factory=dict)
    build_seconds: dict[str, float] = field(default_factory=dict)
    load: store_load.Load | None = None
    recomputed: tuple[float, int] | None = None
    load_average: float = 0.0

    @property
    def target(self) -> Target:
        """Target for this number of versions."""
        return next((target for target in TARGETS if self.versions <= target.versions), TARGETS[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 versions and few queries: under a minute")
    parser.add_argument("--versions", type=int, nargs="+", default=[10_000, 100_000], metavar="N")
    parser.add_argument("--dimension", type=int, default=4_096, metavar="D")
    parser.add_argument("--folder", type=Path, help="folder for the scratch database")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    questions = 25 if options.quick else 200
    results = []
    for count in [2_000] if options.quick else options.versions:
        with tempfile.TemporaryDirectory(prefix="deltadex-store-", dir=options.folder) as folder:
            _require_room(Path(folder), count * options.dimension * 4 * _DISK)
            results.append(measure(SyntheticVectors(count, options.dimension), Path(folder), questions, console))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    show(results, console)


def measure(synthetic: SyntheticVectors, folder: Path, questions: int, console: Console) -> Result:
    """Fill a scratch store in `folder` and measure everything on it."""
    result = Result(synthetic.count, synthetic.dimension)
    with scratch_database(folder) as database, console.status("") as status:
        for title, step in _steps(load(database, synthetic, folder), result, folder, questions):
            status.update(f"{synthetic.count:,} versions: {title}")
            step()
    result.load_average = os.getloadavg()[1]
    return result


def _steps(
    company: Company, result: Result, folder: Path, questions: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    rows = np.random.default_rng(4).choice(len(company.vectors), size=questions, replace=False).tolist()
    truth = {team: company.nearest(rows, team or None) for team in ("", *TEAMS)}
    app = store_load.app(company, folder)

    def ask(name: str, build: Callable[[Company], Search], most: int = questions) -> None:
        started = time.perf_counter()
        search_method = build(company)
        result.build_seconds[name] = time.perf_counter() - started
        result.answers[name] = {team: _ask(company, search_method, rows[:most], team, truth[team]) for team in truth}

    result.rows_per_second = len(company.vectors) / company.load_seconds
    yield "querying the store", lambda: ask(OURS, deltadex_search)
    result.beyond_vectors = company.bytes_beyond_vectors
    yield "storing one by one", lambda: _store_one_by_one(company, app, result, questions)
    yield "storing and querying concurrently", lambda: _under_load(company, app, result, rows)
    if len(company.vectors) <= _RECOMPUTED_UP_TO:
        yield "finding all near duplicates", lambda: _recompute(company, result, folder)
    with store_rivals.plain_table(company):
        yield "querying by exact scan", lambda: ask("exact scan", store_rivals.exact_scan, _SCANS)
        yield "querying binary_quantize", lambda: ask("binary_quantize", store_rivals.binary_quantize)
    if store_rivals.HAS_FAISS:
        yield "querying FAISS", lambda: ask("FAISS, in memory", store_rivals.faiss_in_memory)


def deltadex_search(company: Company) -> Search:
    """Return the store's own search, after building the indexes that it needs."""
    indexes.build(company.database)

    def ask(row: int, team: str | None) -> set[int]:
        conditions = search.Conditions(tags={"team": team} if team else {})
        with company.database.transaction() as tx:
            found = search.neighbors(tx, int(company.ids[row]), k=LIMIT, conditions=conditions)
        return {neighbor.version.id for neighbor in found.neighbors}

    return ask


def _ask(company: Company, ask: Search, rows: Sequence[int], team: str, truth: Sequence[set[int]]) -> Answers:
    for row in rows[:5]:
        ask(row, team or None)
    hits, seconds, cpu_before = 0, [], company.cpu_seconds()
    for row, expected in zip(rows, truth, strict=False):
        started = time.perf_counter()
        answer = ask(row, team or None)
        seconds.append(time.perf_counter() - started)
        hits += len(answer & expected)
    cpu = (company.cpu_seconds() - cpu_before) / len(seconds) * 1000
    total = sum(len(expected) for expected in truth[: len(rows)])
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    return Answers(hits / total, float(p50), float(p95), cpu)


def _store_one_by_one(company: Company, app: store_load.App, result: Result, count: int) -> None:
    seconds = store_load.store_seconds(company, app, count)
    result.store_p50 = float(np.median(seconds)) * 1000


def _under_load(company: Company, app: store_load.App, result: Result, rows: Sequence[int]) -> None:
    result.load = store_load.under_load(company, app, rows[:50], each=max(5, len(rows) // 8))


def _recompute(company: Company, result: Result, folder: Path) -> None:
    variables = {
        "DELTADEX_DATABASE__URL": company.database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(folder),
    }
    started = time.perf_counter()
    command = [sys.executable, "-m", "deltadex", "duplicates", "--recompute", "--json"]
    process = os.posix_spawn(sys.executable, command, {**os.environ, **variables}, file_actions=_SILENT)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit("`deltadex duplicates --recompute` failed")
    result.recomputed = (time.perf_counter() - started, usage.ru_maxrss * 1024)


_SILENT = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{needed / 1e9:.0f} GB are needed in {folder.parent} and {free / 1e9:.0f} GB are free")


def show(results: Sequence[Result], console: Console) -> None:
    for result in results:
        rivals = [name for name in result.answers if name != OURS]
        title = f"{result.versions:,} versions of {result.dimension:,} dimensions, synthetic; one client"
        caption = f"load average {result.load_average:.1f} on {os.cpu_count()} cores"
        table = Table("measure", "target", *rivals, OURS, "met", title=title, caption=caption)
        for measure_name, target, values, is_met in lines(result):
            met = "" if is_met is None else "[green]yes[/]" if is_met else "[red]no[/]"
            table.add_row(measure_name, target, *(values.get(name, "–") for name in (*rivals, OURS)), met)
        console.print(table)


Line = tuple[str, str, dict[str, str], bool | None]


def lines(result: Result) -> Iterator[Line]:
    """Yield measure, target, values by search method, and True if ours meets the target."""
    target = result.target
    ours = result.answers[OURS]
    for team, share in {"": 1.0, **TEAMS}.items():
        by_search = {name: answers[team] for name, answers in result.answers.items()}
        recalls = {name: f"{answers.recall:.3f}" for name, answers in by_search.items()}
        times = {name: f"{answers.p50:.1f} / {answers.p95:.1f}" for name, answers in by_search.items()}
        if team:
            met = ours[team].recall >= FILTER_RECALL
            yield f"recall@{LIMIT}, filter keeps {share:.1%}", f"≥ {FILTER_RECALL}", recalls, met
            yield f"p50 / p95 ms, filter keeps {share:.1%}", f"≤ {FILTER_P95}", times, ours[team].p95 <= FILTER_P95
        else:
            yield f"recall@{LIMIT}", f"≥ {target.recall}", recalls, ours[team].recall >= target.recall
            met = ours[team].p50 <= target.p50 and ours[team].p95 <= target.p95
            yield "p50 / p95 ms", f"≤ {target.p50:.0f} / {target.p95:.0f}", times, met
            yield "CPU ms per query", "", {name: f"{answers.cpu:.1f}" for name, answers in by_search.items()}, None
    yield "build of the index, s", "", {name: f"{seconds:.0f}" for name, seconds in result.build_seconds.items()}, None
    value = f"{result.store_p50:.1f}"
    yield "store + duplicates, p50 ms", f"≤ {target.store_p50:.0f}", {OURS: value}, result.store_p50 <= target.store_p50
    value = f"{result.rows_per_second:,.0f}"
    yield "bulk load, rows/s", f"≥ {LOAD_ROWS:,}", {OURS: value}, result.rows_per_second >= LOAD_ROWS
    value = f"{result.beyond_vectors:.0%}"
    yield "size beyond the vectors", f"≤ {SHARE:.0%}", {OURS: value}, result.beyond_vectors <= SHARE
    if load := result.load:
        load_name = f"{store_load.WRITERS} writers, {store_load.READERS} readers"
        value = f"{load.lost} / {load.changed_answers}"
        yield f"{load_name}: lost / changed answers", "0 / 0", {OURS: value}, not (load.lost or load.changed_answers)
        value = f"{load.writes_per_second:.0f} / {load.reads_per_second:.0f}"
        yield f"{load_name}: stored / answered per s", "", {OURS: value}, None
    if result.recomputed:
        seconds, memory = result.recomputed
        met = seconds <= 600 and memory <= 4 << 30
        yield "all near duplicates, s / GiB", "≤ 600 / 4", {OURS: f"{seconds:.0f} / {memory / (1 << 30):.1f}"}, met


if __name__ == "__main__":
    main()
