"""The store with 10,000 versions and more: what issue 4 asks for, beside what a user would pick instead.

The vectors are synthetic: nested clusters, with noise in the upper dimensions (`benchmarks.synthetic_vectors`). All
searches run over the same vectors in the same run, one client at a time, each after a few questions to warm up:

- ours, `deltadex.store.search`, after `deltadex db index` where the store asks for it;
- pgvector's exact scan of a plain table;
- pgvector's `binary_quantize` in an HNSW index with a re-rank of 200 by full vectors, iterative where a filter follows;
- FAISS, an inverted file of full vectors in memory, where it is installed: `.venv/bin/pip install faiss-cpu`.

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
from deltadex.store import indexes, search

OURS, _WIDTH = "deltadex", 140
#: On disk: the vectors' file, the store, the plain table, its index and the write-ahead log, in sizes of the vectors.
_DISK = 5
#: A scan of everything takes so long that fewer questions must do.
_SCANS = 20
#: Versions up to which all near duplicates are found anew: their number squared is what that costs.
_RECOMPUTED_UP_TO = 100_000


@dataclass(frozen=True)
class Answers:
    """How one search did.

    Attributes
    ----------
    recall
        Share of the true neighbours that were found.
    p50, p95
        Milliseconds that passed.
    cpu
        Milliseconds that client and server computed per question: what is left of the others on a busy machine.
    """

    recall: float
    p50: float
    p95: float
    cpu: float


@dataclass(frozen=True)
class Target:
    """What issue 4 asks for, for up to so many versions."""

    versions: int
    recall: float
    p50: float
    p95: float
    store_p50: float


TARGETS = (Target(10_000, 1.0, 10, 20, 50), Target(100_000, 0.99, 10, 20, 60), Target(1_000_000, 0.99, 20, 40, 100))
FILTER_RECALL, FILTER_P95, LOAD_ROWS, SHARE = 0.97, 60, 2_000, 0.4


@dataclass
class Result:
    """What was measured for one number of versions.

    Attributes
    ----------
    answers
        By search, then by team; "" is no filter.
    build_seconds
        By search, what its index took.
    beyond_vectors
        Size of the database without the vectors, as a share of theirs.
    recomputed
        Seconds, and bytes of memory at most, files that were mapped included.
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
        """The column of the issue's table."""
        return next((target for target in TARGETS if self.versions <= target.versions), TARGETS[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 versions and few questions: under a minute")
    parser.add_argument("--versions", type=int, nargs="+", default=[10_000, 100_000], metavar="N")
    parser.add_argument("--dimension", type=int, default=4_096, metavar="D")
    parser.add_argument("--folder", type=Path, help="where there is room for the scratch database")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    given = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    questions = 25 if given.quick else 200
    results = []
    for count in [2_000] if given.quick else given.versions:
        with tempfile.TemporaryDirectory(prefix="deltadex-store-", dir=given.folder) as folder:
            _require_room(Path(folder), count * given.dimension * 4 * _DISK)
            results.append(measure(SyntheticVectors(count, given.dimension), Path(folder), questions, console))
    if given.json:
        given.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    show(results, console)


def measure(synthetic: SyntheticVectors, folder: Path, questions: int, console: Console) -> Result:
    """Fill a scratch store in `folder` and measure everything on it."""
    result = Result(synthetic.count, synthetic.dimension)
    with scratch_database(folder) as database, console.status("") as status:
        for what, step in _steps(load(database, synthetic, folder), result, folder, questions):
            status.update(f"{synthetic.count:,} versions: {what}")
            step()
    result.load_average = os.getloadavg()[1]
    return result


def _steps(
    company: Company, result: Result, folder: Path, questions: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    rows = np.random.default_rng(4).choice(len(company.vectors), size=questions, replace=False).tolist()
    truth = {team: company.nearest(rows, team or None) for team in ("", *TEAMS)}
    services = store_load.services(company, folder)

    def ask(name: str, build: Callable[[Company], Search], most: int = questions) -> None:
        begun = time.perf_counter()
        ours = build(company)
        result.build_seconds[name] = time.perf_counter() - begun
        result.answers[name] = {team: _ask(company, ours, rows[:most], team, truth[team]) for team in truth}

    result.rows_per_second = len(company.vectors) / company.load_seconds
    yield "asking the store", lambda: ask(OURS, deltadex_search)
    result.beyond_vectors = company.bytes_beyond_vectors
    yield "storing one by one", lambda: _store_one_by_one(company, services, result, questions)
    yield "storing and asking at once", lambda: _under_load(company, services, result, rows)
    if len(company.vectors) <= _RECOMPUTED_UP_TO:
        yield "finding all near duplicates", lambda: _recompute(company, result, folder)
    with store_rivals.plain_table(company):
        yield "asking by an exact scan", lambda: ask("exact scan", store_rivals.exact_scan, _SCANS)
        yield "asking binary_quantize", lambda: ask("binary_quantize", store_rivals.binary_quantize)
    if store_rivals.HAS_FAISS:
        yield "asking FAISS", lambda: ask("FAISS, in memory", store_rivals.faiss_in_memory)


def deltadex_search(company: Company) -> Search:
    """Return the store's own search, after its indexes are built where it asks for them."""
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
    found, seconds, computed = 0, [], company.cpu_seconds()
    for row, right in zip(rows, truth, strict=False):
        begun = time.perf_counter()
        answer = ask(row, team or None)
        seconds.append(time.perf_counter() - begun)
        found += len(answer & right)
    cpu = (company.cpu_seconds() - computed) / len(seconds) * 1000
    wanted = sum(len(right) for right in truth[: len(rows)])
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    return Answers(found / wanted, float(p50), float(p95), cpu)


def _store_one_by_one(company: Company, services: store_load.Services, result: Result, count: int) -> None:
    seconds = store_load.store_seconds(company, services, count)
    result.store_p50 = float(np.median(seconds)) * 1000


def _under_load(company: Company, services: store_load.Services, result: Result, rows: Sequence[int]) -> None:
    result.load = store_load.under_load(company, services, rows[:50], each=max(5, len(rows) // 8))


def _recompute(company: Company, result: Result, folder: Path) -> None:
    variables = {
        "DELTADEX_DATABASE__URL": company.database.url,
        "DELTADEX_REGISTRY": REGISTRY,
        "DELTADEX_DATA_DIR": str(folder),
    }
    begun = time.perf_counter()
    command = [sys.executable, "-m", "deltadex", "duplicates", "--recompute", "--json"]
    process = os.posix_spawn(sys.executable, command, {**os.environ, **variables}, file_actions=_SILENT)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit("`deltadex duplicates --recompute` failed")
    result.recomputed = (time.perf_counter() - begun, usage.ru_maxrss * 1024)


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
        for name, target, values, is_met in lines(result):
            met = "" if is_met is None else "[green]yes[/]" if is_met else "[red]no[/]"
            table.add_row(name, target, *(values.get(who, "–") for who in (*rivals, OURS)), met)
        console.print(table)


Line = tuple[str, str, dict[str, str], bool | None]


def lines(result: Result) -> Iterator[Line]:
    """Yield measure, target, values by search, and whether ours meets the target."""
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
            yield "CPU ms per question", "", {name: f"{answers.cpu:.1f}" for name, answers in by_search.items()}, None
    yield "build of the index, s", "", {name: f"{seconds:.0f}" for name, seconds in result.build_seconds.items()}, None
    value = f"{result.store_p50:.1f}"
    yield "store + duplicates, p50 ms", f"≤ {target.store_p50:.0f}", {OURS: value}, result.store_p50 <= target.store_p50
    value = f"{result.rows_per_second:,.0f}"
    yield "bulk load, rows/s", f"≥ {LOAD_ROWS:,}", {OURS: value}, result.rows_per_second >= LOAD_ROWS
    value = f"{result.beyond_vectors:.0%}"
    yield "size beyond the vectors", f"≤ {SHARE:.0%}", {OURS: value}, result.beyond_vectors <= SHARE
    if load := result.load:
        who = f"{store_load.WRITERS} writers, {store_load.READERS} readers"
        value = f"{load.lost} / {load.changed_answers}"
        yield f"{who}: lost / changed answers", "0 / 0", {OURS: value}, not (load.lost or load.changed_answers)
        value = f"{load.writes_per_second:.0f} / {load.reads_per_second:.0f}"
        yield f"{who}: stored / answered per s", "", {OURS: value}, None
    if result.recomputed:
        seconds, memory = result.recomputed
        met = seconds <= 600 and memory <= 4 << 30
        yield "all near duplicates, s / GiB", "≤ 600 / 4", {OURS: f"{seconds:.0f} / {memory / (1 << 30):.1f}"}, met


if __name__ == "__main__":
    main()
