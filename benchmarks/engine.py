"""Time and memory of embedding, compared with the published algorithm and with the machine's limits.

Every measurement runs in its own process, the published algorithm and ours in turn, with files in the page cache (warm)
or dropped from it (cold). Wall time is the minimum over the rounds, without imports; memory is the maximum, with them.

- published: the released scripts of arXiv 2509.04442: `from_pretrained`, then the five probes one by one with logits
  and all hidden states. The base stays in memory, and the finetune is loaded beside it. For an adapter the base is
  loaded again, because the scripts stack adapters on one base, which gives wrong numbers;
- ours: `deltadex.engine.delta.Base`, with the base's states known from an earlier run, or unknown;
- the floor: the longer of reading the file, and computing the layers' matrix products with weights in memory.

    python -m benchmarks.engine [--quick] [--size 1b|8b] [--rounds N] [--folder FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from benchmarks.engine_models import SHAPES, Models, Shape, Task, base_model, build, checkpoint
from deltadex.checkpoints.digest import weights_digest
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.isolation import MALLOC_ENVIRONMENT, OMP_ENVIRONMENT
from deltadex.engine.requests import Finetune
from deltadex.errors import DeltadexError

DTYPES = ("bfloat16", "float32")
CACHES = ("cold", "warm")
#: Peak anonymous memory of a full finetune as a fraction of its file.
MEMORY_TARGETS = {"1b": 0.15, "8b": 0.06}
SIMILARITY_TARGETS = {"float32": 0.99999, "bfloat16": 0.999}
_PUBLISHED_ADAPTERS = 4
#: Memory that a process needs beside its imports, for threads and one layer of the smallest model.
_OVERHEAD = 256 << 20

#: Measurements by name, one entry per round.
Runs = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    target
        Maximum of `ratio`; the minimum if `at_least`.
    """

    measure: str
    published: str
    ours: str
    ratio: float | None = None
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """True if the target is met; None without a target."""
        if self.target is None:
            return None
        return self.ratio is not None and (self.ratio >= self.target if self.at_least else self.ratio <= self.target)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 million parameters, one round")
    parser.add_argument("--size", choices=("1b", "8b"), default="1b", help="parameters of the models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=user_cache_path("deltadex") / "engine", help="folder of the models"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options, console = parser.parse_args(arguments), Console()
    shape, rounds = (SHAPES["100m"], 1) if options.quick else (SHAPES[options.size], options.rounds)
    with console.status("") as status:
        models = build(options.folder, shape, lambda name: status.update(f"writing {name}"))
        runs = measure(models, rounds, status.update)
    rows = list(table_rows(runs, models, shape))
    show(rows, shape, models, console)
    if options.json:
        table = [{**asdict(row), "met": row.met} for row in rows]
        content = {"machine": machine(), "shape": asdict(shape), "file": models.nbytes, "rows": table, "runs": runs}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measure(models: Models, rounds: int, progress: Callable[[str], None]) -> Runs:
    """Run all programs in every round."""
    runs: Runs = {}
    with tempfile.TemporaryDirectory() as states:
        for dtype in DTYPES:
            progress(f"base states in {dtype}")
            _run(_ours(models, dtype, states=states))
        for number, (name, work) in product(range(1, rounds + 1), list(_plan(models, states))):
            progress(f"round {number} of {rounds}: {name}")
            runs.setdefault(name, []).append(work())
    progress("limited memory")
    imports = _run(Task("imports", str(models.base)))
    limit = max(models.nbytes // 3, imports["data"] + _OVERHEAD)
    theirs = replace(_ours(models, "bfloat16", states=None), program="published")
    limited = {"limited ours": [_limited_ours(models, limit)], "limited published": [_attempt(theirs, limit)]}
    return runs | limited | {"imports": [imports]}


def _ours(models: Models, dtype: str, *, states: str | None) -> Task:
    return Task("ours", str(models.base), (str(models.finetune),), dtype, states)


def _plan(models: Models, states: str) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the names and measurements of a round; compared ones are neighbours."""
    for cache in CACHES:
        prepare = partial(_cached, models, cold=cache == "cold")
        yield f"cat {cache}", partial(_here, partial(_read_through, _weight_files(models.finetune)), prepare)
        yield f"digest {cache}", partial(_here, lambda: weights_digest(checkpoint(models.finetune)), prepare)
        for dtype in DTYPES:
            known = _ours(models, dtype, states=states)
            yield f"published {dtype} {cache}", partial(_run, replace(known, program="published"), prepare)
            yield f"known {dtype} {cache}", partial(_run, known, prepare)
            yield f"unknown {dtype} {cache}", partial(_run, replace(known, states=None), prepare)
    for dtype in DTYPES:
        task = Task("products", str(models.base), tuple(map(str, models.adapters)), dtype, states)
        few = task.finetunes[:_PUBLISHED_ADAPTERS]
        yield f"products {dtype}", partial(_run, task)
        yield f"published adapters {dtype}", partial(_run, replace(task, program="published adapters", finetunes=few))
        yield f"adapters {dtype}", partial(_run, replace(task, program="ours"))
        yield f"library pass {dtype}", partial(_run, replace(task, program="library pass"))
        one_more = replace(task, program="ours one by one", finetunes=(*few, *few[:1]))
        yield f"one more {dtype}", partial(_run, one_more)


def _run(task: Task, prepare: Callable[[], None] = lambda: None, *, memory_bytes: int = 0) -> dict[str, Any]:
    """Return a program's results, with its wall time including imports and its peak memory."""
    prepare()
    environment = {**os.environ, **OMP_ENVIRONMENT, "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    environment |= MALLOC_ENVIRONMENT if task.program.startswith("ours") else {}
    limit = memory_bytes or resource.RLIM_INFINITY
    program = [sys.executable, "-m", "benchmarks.engine_models", json.dumps(asdict(task))]
    with tempfile.TemporaryFile("w+") as error_output:
        started = time.perf_counter()
        child = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=error_output, text=True)
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (limit, limit))
        with _memory_of(child.pid) as memory:
            output, _ = child.communicate()
        if child.returncode:
            error_output.seek(0)
            raise RuntimeError(f"exit {child.returncode}: {error_output.read().strip().rpartition(chr(10))[2]}")
    results: dict[str, Any] = json.loads(output.strip().rpartition("\n")[2])
    return results | memory | {"seconds_with_imports": time.perf_counter() - started}


@contextmanager
def _memory_of(pid: int) -> Iterator[dict[str, int]]:
    """Yield a mapping with the peak memory of a process in bytes, sampled every 10 ms during the block."""
    peak, ended = {"anonymous": 0, "resident": 0, "data": 0}, threading.Event()

    def watch() -> None:
        fields = {"RssAnon": "anonymous", "VmRSS": "resident", "VmData": "data"}
        while not ended.wait(0.01):
            status = ""
            with suppress(OSError):  # the process has ended
                status = Path(f"/proc/{pid}/status").read_text()
            for field, kilobytes in re.findall(r"^(RssAnon|VmRSS|VmData):\s+(\d+) kB", status, re.MULTILINE):
                peak[fields[field]] = max(peak[fields[field]], 1024 * int(kilobytes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _attempt(task: Task, memory_bytes: int) -> dict[str, Any]:
    try:
        return _run(task, memory_bytes=memory_bytes)
    except RuntimeError as error:
        return {"error": str(error)}


def _limited_ours(models: Models, limit: int) -> dict[str, Any]:
    """Embed in the embedding process of the pipeline, with unknown base states."""
    base, finetune = base_model(_ours(models, "bfloat16", states=None)), Finetune(checkpoint(models.finetune), "")
    with EmbeddingProcess(memory_bytes=limit) as process, _memory_of(process.pid) as memory:
        started = time.perf_counter()
        ((_, result),) = process.embed(base, [finetune], deadline_seconds=7200)
        timing = {"seconds": time.perf_counter() - started, "limit": limit}
    return timing | memory | ({"error": str(result)} if isinstance(result, DeltadexError) else {})


def _cached(models: Models, *, cold: bool) -> None:
    """Read all weights into the page cache, or drop them from it."""
    files = [*_weight_files(models.base), *_weight_files(models.finetune)]
    if not cold:
        _read_through(files)
    for file in files if cold else ():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _weight_files(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.safetensors"))


def _read_through(files: Iterable[Path]) -> None:
    buffer = bytearray(16 << 20)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def _here(work: Callable[[], object], prepare: Callable[[], None]) -> dict[str, Any]:
    prepare()
    started = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - started}


def table_rows(runs: Runs, models: Models, shape: Shape) -> Iterator[Row]:
    """Yield the rows of the table."""
    best = partial(_best, runs)
    for dtype, cache in product(DTYPES, CACHES):
        target = 0.5 if dtype == "bfloat16" else None
        finetune, whole = (best(f"published {dtype} {cache}", key) for key in ("finetune_seconds", "seconds"))
        known, unknown = best(f"known {dtype} {cache}"), best(f"unknown {dtype} {cache}")
        yield _seconds(f"full finetune, {dtype}, {cache}, base known", finetune, known, target)
        yield _seconds(f"full finetune and its base, {dtype}, {cache}", whole, unknown, target)
        cat, products = best(f"cat {cache}"), best(f"products {dtype}")
        floor = f"floor: cat {cat:.2f} s, products {products:.2f} s"
        ratio = known / max(cat, products)
        yield Row(f"… beside the floor, {dtype}, {cache}", floor, f"{known:.2f} s", ratio, target and 1.5)
    yield from _memory_rows(runs, models, shape)
    for dtype in DTYPES:
        ours, theirs = best(f"adapters {dtype}") / len(models.adapters), best(f"published adapters {dtype}")
        yield _seconds(f"{len(models.adapters)} adapters, {dtype}, each", theirs, ours, 0.1)
        yield _seconds("… a base that stays loaded", best(f"published adapters {dtype}", "staying_seconds"), ours)
        one, more = best(f"library pass {dtype}"), best(f"one more {dtype}")
        yield Row(f"one more adapter, {dtype}, warm base", f"one pass: {one:.2f} s", f"{more:.2f} s", more / one, 1.2)
    yield _limit_row(runs, models)
    yield from _similarity_rows(runs)
    for cache in CACHES:
        yield _seconds(f"digest of the file, {cache}, beside cat", best(f"cat {cache}"), best(f"digest {cache}"))


def _memory_rows(runs: Runs, models: Models, shape: Shape) -> Iterator[Row]:
    imports, size, target = runs["imports"][0]["anonymous"], models.nbytes, MEMORY_TARGETS.get(shape.name)

    def row(measure: str, program: str, key: str, target: float | None = None) -> Row:
        programs = f"published {dtype}", program
        theirs, ours = (max(_worst(runs, f"{name} {cache}", key) for cache in CACHES) for name in programs)
        return Row(measure, _gb(theirs), _gb(ours), ours / size, target)

    for dtype in DTYPES:
        yield row(f"peak anonymous memory / file, {dtype}", f"known {dtype}", "anonymous", target)
        yield row("… the base unknown", f"unknown {dtype}", "anonymous", target)
        yield row("… total resident, mapped file included", f"known {dtype}", "resident")
    yield Row("… of that the imports alone", "", _gb(imports), imports / size)


def _limit_row(runs: Runs, models: Models) -> Row:
    (theirs,), (ours,) = runs["limited published"], runs["limited ours"]
    ratio = models.nbytes / ours["limit"]
    is_as_expected = "error" in theirs and "error" not in ours
    return Row(
        f"file / memory limit of {_gb(ours['limit'])}",
        f"fails: {theirs['error'][:60]}" if "error" in theirs else "works",
        f"fails: {ours['error']}" if "error" in ours else f"works, {ours['seconds']:.1f} s, {_gb(ours['anonymous'])}",
        round(ratio, 2) if is_as_expected else None,
        3.0,
        at_least=True,
    )


def _similarity_rows(runs: Runs) -> Iterator[Row]:
    def vector(name: str) -> Any:
        return np.array(runs[f"{name} warm"][0]["vectors"][0])

    reference = vector("published float32")
    for dtype in DTYPES:
        theirs, ours = (_cosine(vector(f"{program} {dtype}"), reference) for program in ("published", "known"))
        known = runs[f"known {dtype} warm"][0]
        measure, target = f"similarity to published float32, {dtype}", SIMILARITY_TARGETS[dtype]
        yield Row(measure, f"{theirs:.6f}", f"{ours:.6f}", ours, target, at_least=True)
        yield Row("… noise floor; strength of the finetune", "", f"{known['noise_floor']:.1e}; {known['strength']:.1e}")


def _seconds(measure: str, theirs: float, ours: float, target: float | None = None) -> Row:
    return Row(measure, f"{theirs:.2f} s", f"{ours:.2f} s", ours / theirs, target)


def _best(runs: Runs, name: str, key: str = "seconds") -> float:
    return min(float(run[key]) for run in runs[name])


def _worst(runs: Runs, name: str, key: str) -> float:
    return max(float(run[key]) for run in runs[name])


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def _cosine(one: Any, other: Any) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def machine() -> dict[str, object]:
    """Return a description of this machine."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    kernels, load = torch.backends.cpu.get_cpu_capability(), os.getloadavg()[0]
    return {"processor": model and model[1], "kernels": kernels, "cores": os.cpu_count(), "load": load}


def show(rows: Iterable[Row], shape: Shape, models: Models, console: Console) -> None:
    description = ", ".join(f"{name} {value}" for name, value in machine().items())
    title = f"{shape.name}, {_gb(models.nbytes)}; {description}"
    table = Table("measure", "published", "ours", "ratio", "target", "met", title=title)
    for row in rows:
        digits = 6 if row.at_least and row.target and row.target < 1 else 2
        ratio = "" if row.ratio is None else f"{row.ratio:.{digits}f}"
        target = "" if row.target is None else f"{'≥' if row.at_least else '≤'} {row.target:g}"
        met = {None: "–", True: "yes", False: "no"}[row.met]
        table.add_row(row.measure, row.published, row.ours, ratio, target, met)
    console.print(table)


if __name__ == "__main__":
    main()
