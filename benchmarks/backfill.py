"""A backlog of small adapters, from registration to embedding, on the embedded stack: rate and cost per version.

The stack runs as `deltadex up` starts it. While its watcher is paused, adapters of three bases are registered by the
ordinary MLflow API; the clock starts when it goes on. Then versions are registered one by one on the idle system, and
again during a second backlog, twice as long.

- rate: versions per minute until the last one is embedded; the last quarter beside the first;
- CPU: processor time of all processes of the stack per version; the embedding process apart;
- requests: what MLflow's server logged between start and end, files included;
- idle: processor time and memory of Deltadex's own processes when there is nothing to do;
- the plain script is what a person would write instead: transformers and peft in one process, without a registry.

    python -m benchmarks.backfill [--quick] [--versions N] [--only-backlog] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from mlflow import MlflowClient
from peft import LoraConfig, PeftModel, get_peft_model
from rich.console import Console
from rich.table import Table
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from deltadex.engine.probes import PAPER_PROBES
from deltadex.settings import Settings, load_settings
from deltadex.stack.running import RunningStack
from deltadex.store.database import Database
from deltadex.types import State
from deltadex.versions import queries as versions

BASES = ("acme/base-a", "acme/base-b", "acme/base-c")
_VERSIONS_PER_MODEL = 4
_IDLE_SECONDS = 60
_REQUEST = re.compile(r'"(GET|POST|PUT|PATCH|DELETE) (\S+?)[?" ]')


@dataclass(frozen=True)
class Row:
    """A line of the table; `target` is the maximum, or the minimum if `at_least`."""

    measure: str
    value: float
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """True if the target is met; None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True)
class Cost:
    """Processor time in seconds by service, and MLflow's requests by kind."""

    seconds: dict[str, float]
    requests: Counter[str]

    def since(self, before: Cost) -> Cost:
        """Return the difference to an earlier one."""
        seconds = {name: value - before.seconds.get(name, 0.0) for name, value in self.seconds.items()}
        return Cost(seconds, self.requests - before.requests)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="30 versions, 3 on the idle system")
    parser.add_argument("--versions", type=int, default=200)
    parser.add_argument("--only-backlog", action="store_true", help="stop after the backlog: for thousands of versions")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options, console = parser.parse_args(arguments), Console()
    count, singles = (30, 3) if options.quick else (options.versions, 0 if options.only_backlog else 10)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="deltadex-backfill-") as temporary, console.status("building") as status:
        folder = Path(temporary)
        bases = {name: build_base(folder / name, seed) for seed, name in enumerate(BASES)}
        adapters = [
            build_adapter(BASES[number % 3], bases[BASES[number % 3]], folder / f"adapter-{number}", seed=number)
            for number in range(count + singles)
        ]
        status.update("the plain script")
        plain = plain_script(adapters[:count], bases)
        status.update("starting the stack")
        with stack(folder / "data", bases) as settings:
            rows, costs = measure(settings, adapters, count, status.update)
    rows.append(Row("the plain script: versions per minute", 60 * count / plain))
    show(rows, costs, console, count=count, load=load_before)
    if options.json:
        content = {"load": load_before, "versions": count, "rows": [{**asdict(row), "met": row.met} for row in rows]}
        content |= {"seconds": costs.seconds, "requests": dict(costs.requests)}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measure(
    settings: Settings, adapters: Sequence[Path], count: int, progress: Callable[[str], None]
) -> tuple[list[Row], Cost]:
    """Embed a backlog of `count` adapters, the others one by one, and these again beside a second backlog."""
    client = MlflowClient(settings.mlflow_uri)
    backlog, singles = adapters[:count], adapters[count:]
    with Database(settings.database_url) as database:
        wait = Waiter(settings, database, progress)
        register_at_once(settings, client, "first", backlog, progress)
        before, started = cost(settings), time.monotonic()
        ended_at = wait(count)
        seconds = time.monotonic() - started
        of_backlog = cost(settings).since(before)
        ours = sum(of_backlog.seconds.values()) - of_backlog.seconds["engine"]
        rows = [
            Row("backlog: versions per minute", 60 * count / seconds, 120, at_least=True),
            Row("the same in the last quarter / in the first", last_quarter(ended_at), 0.9, at_least=True),
            Row("CPU seconds per version, without the engine", ours / count, 0.8),
            Row("CPU seconds per version, engine", of_backlog.seconds["engine"] / count),
            Row("requests to MLflow per version", of_backlog.requests.total() / count, 12),
        ]
        of_version = Cost({name: value / count for name, value in of_backlog.seconds.items()}, of_backlog.requests)
        if not singles:
            return rows, of_version
        time.sleep(15)  # what follows a backlog: analyses, tags
        idle = [wait.single(client, f"idle-{number}", adapter) for number, adapter in enumerate(singles)]
        at_rest = idle_rows(settings, progress)
        register_at_once(settings, client, "second", [*backlog, *backlog], progress)
        wait(count + len(singles) + 1)
        busy = [wait.single(client, f"busy-{number}", adapter) for number, adapter in enumerate(singles)]
        is_still_busy = wait.ended() < 3 * count + 2 * len(singles)
    beside = float(np.percentile(busy, 95) / np.percentile(idle, 95))
    return [
        *rows,
        Row("idle: registration → embedded, p50, seconds", float(np.median(idle)), 5),
        Row("idle: registration → embedded, p95, seconds", float(np.percentile(idle, 95)), 10),
        Row(f"the same during a backlog{'' if is_still_busy else ' (which ended before)'}, p95 / p95", beside, 1.5),
        *at_rest,
    ], of_version


class Waiter:
    """Waits for versions to be embedded."""

    def __init__(self, settings: Settings, database: Database, progress: Callable[[str], None]) -> None:
        self._settings = settings
        self._database = database
        self._progress = progress

    def __call__(self, count: int) -> list[tuple[float, int]]:
        """Wait until this many versions are embedded, and return how many were after how many seconds."""
        started, seen = time.monotonic(), [(0.0, self.ended())]
        while seen[-1][1] < count:
            self._progress(f"{seen[-1][1]} of {count} embedded after {seen[-1][0]:.0f} s")
            time.sleep(0.5)
            seen.append((time.monotonic() - started, self.ended()))
        return seen

    def ended(self) -> int:
        """Return how many versions are embedded.

        Raises
        ------
        RuntimeError
            One ended in another state.
        """
        states = self._database.run(lambda tx: versions.counts(tx, self._settings.registry))
        if states[State.FAILED] or states[State.UNSUPPORTED]:
            raise RuntimeError(f"versions failed: {states}")
        return states[State.EMBEDDED]

    def single(self, client: MlflowClient, name: str, adapter: Path) -> float:
        """Register a version and return the seconds until it is embedded."""
        self._progress(f"registering {name}")
        started = time.monotonic()
        register(client, name, adapter)
        while not any(
            row.state is State.EMBEDDED
            for row in self._database.run(lambda tx: versions.find(tx, self._settings.registry, name))
        ):
            time.sleep(0.05)
        seconds = time.monotonic() - started
        time.sleep(1)
        return seconds


def last_quarter(ended_at: Sequence[tuple[float, int]]) -> float:
    """Return the rate in the last quarter of a backlog divided by that in the first, its start-up included."""
    seconds, counts = np.array(ended_at).T
    quarters = np.interp(np.array([0.25, 0.75, 1.0]) * counts[-1], counts, seconds)
    return float(quarters[0] / (quarters[2] - quarters[1]))


def idle_rows(settings: Settings, progress: Callable[[str], None]) -> list[Row]:
    """Return what Deltadex's own processes use while there is nothing to do."""
    progress("idle")
    time.sleep(20)  # what follows the last version
    before = cost(settings)
    time.sleep(_IDLE_SECONDS)
    used = cost(settings).since(before).seconds
    watcher = process_of(settings, "watcher")
    supervisor = psutil.Process(watcher.ppid())
    own = {name: used[name] / _IDLE_SECONDS for name in ("watcher", "worker", "dashboard", "engine")}
    shares = ", ".join(f"{name} {share:.3f}" for name, share in own.items())
    return [
        Row(f"idle: share of a core ({shares})", sum(own.values()), 0.03),
        Row("idle: resident memory of the supervisor, MB", supervisor.memory_info().rss / 1e6, 60),
        Row("idle: resident memory of the watcher, MB", watcher.memory_info().rss / 1e6, 200),
    ]


def register_at_once(
    settings: Settings, client: MlflowClient, name: str, adapters: Sequence[Path], progress: Callable[[str], None]
) -> None:
    """Register adapters while the watcher is paused, so that it finds all of them at once."""
    watcher = process_of(settings, "watcher")
    watcher.suspend()
    try:
        for number, adapter in enumerate(adapters):
            progress(f"registering {number + 1} of {len(adapters)}")
            register(client, f"{name}-{number // _VERSIONS_PER_MODEL}", adapter)
    finally:
        watcher.resume()


def cost(settings: Settings) -> Cost:
    """Return what the stack has used so far. The time of ended child processes is their parent's."""
    running = RunningStack.read(settings.data_dir)
    assert running is not None  # noqa: S101 - it was started here
    engine: list[psutil.Process] = []
    with suppress(OSError, psutil.NoSuchProcess):
        engine = _with_children(psutil.Process(int((settings.data_dir / "embedder" / "pid").read_text())))
    seconds = {"engine": sum(map(_seconds, engine))}
    for service in running.services:
        processes = set(_with_children(psutil.Process(service.process.pid))) - set(engine)
        seconds[service.name] = sum(map(_seconds, processes))
    log = next(Path(service.log) for service in running.services if service.name == "MLflow")
    requests = Counter(
        f"{method} {re.sub('[0-9a-f]{32}|(first|second|idle|busy)-[0-9]+-v[0-9]+|/[0-9a-f]{12}/|/[0-9]+/', '…', path)}"
        for method, path in _REQUEST.findall(log.read_text())
    )
    return Cost(seconds, requests)


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def process_of(settings: Settings, name: str) -> psutil.Process:
    """Return the process of a service."""
    running = RunningStack.read(settings.data_dir)
    assert running is not None  # noqa: S101 - it was started here
    return next(psutil.Process(one.process.pid) for one in running.services if one.name == name)


def register(client: MlflowClient, name: str, folder: Path) -> None:
    """Log an adapter to a run of its own and register it."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(folder), "model")
    client.set_terminated(run.info.run_id)
    client.create_model_version(name, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id, await_creation_for=0)


@contextmanager
def stack(data_dir: Path, bases: dict[str, Path]) -> Iterator[Settings]:
    """Run `deltadex up` during the block."""
    env = {
        **os.environ,
        "DELTADEX_BASES": json.dumps({name: str(folder) for name, folder in bases.items()}),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    command = [sys.executable, "-m", "deltadex", "up", "--data-dir", str(data_dir)]
    log = data_dir.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        while "Ctrl-C" not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.5)
        yield load_settings(data_dir=data_dir)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def plain_script(adapters: Sequence[Path], bases: dict[str, Path]) -> float:
    """Return the seconds that it takes to compute the delta activations of adapters with transformers and peft."""
    started = time.monotonic()
    torch.set_num_threads(psutil.cpu_count() or 1)
    base_states, deltas = {}, []
    for adapter in adapters:
        name = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
        tokenizer = AutoTokenizer.from_pretrained(bases[name])
        model = AutoModelForCausalLM.from_pretrained(bases[name])
        if name not in base_states:
            base_states[name] = _last_states(model, tokenizer)
        deltas.append(_last_states(PeftModel.from_pretrained(model, adapter), tokenizer) - base_states[name])
    return time.monotonic() - started


def _last_states(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    states = []
    with torch.inference_mode():
        for probe in PAPER_PROBES.probes:
            inputs = tokenizer(probe, return_tensors="pt")
            inputs.pop("token_type_ids", None)
            states.append(model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1])
    return torch.stack(states).mean(0)


def build_base(folder: Path, seed: int) -> Path:
    """Save a tiny Llama with a tokenizer trained on the probes."""
    torch.manual_seed(seed)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        PAPER_PROBES.probes, vocab_size=384, special_tokens=["<s>", "</s>"], show_progress=False
    )
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        bos_token="<s>",  # noqa: S106 - no password
        eos_token="</s>",  # noqa: S106 - no password
        pad_token="</s>",  # noqa: S106 - no password
    )
    tokenizer.save_pretrained(folder)
    return folder


def build_adapter(name: str, base: Path, folder: Path, *, seed: int) -> Path:
    """Save a LoRA adapter with random weights that declares its base by name."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    adapter = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for parameter_name, parameter in adapter.named_parameters():
            if "lora_" in parameter_name:
                parameter.normal_(std=0.05)
    adapter.save_pretrained(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": name}))
    return folder


def show(rows: Sequence[Row], costs: Cost, console: Console, *, count: int, load: float) -> None:
    """Print the table, and where processor time and requests went."""
    parts = Table("service", "CPU s per version", "", "request to MLflow", "per version")
    services = sorted(costs.seconds.items(), key=lambda item: -item[1])
    kinds = costs.requests.most_common(14)
    for number in range(max(len(services), len(kinds))):
        service, seconds = services[number] if number < len(services) else ("", None)
        kind, requests = kinds[number] if number < len(kinds) else ("", None)
        parts.add_row(
            service,
            "" if seconds is None else f"{seconds:.2f}",
            "",
            kind,
            "" if requests is None else f"{requests / count:.2f}",
        )
    console.print(parts)
    table = Table("measure", "value", "target", "met")
    table.caption = f"{count} adapters of {len(BASES)} bases, {os.cpu_count()} cores, load before {load:.1f}"
    for row in rows:
        target = "" if row.target is None else f"{'≥' if row.at_least else '≤'} {row.target:g}"
        table.add_row(row.measure, f"{row.value:.2f}", target, {True: "yes", False: "no", None: ""}[row.met])
    console.print(table)


if __name__ == "__main__":
    main()
