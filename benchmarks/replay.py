"""Agreement of finetunes of SmolLM2-135M-Instruct, from the same weights to another domain, and the time of a replay.

Prompts are stretches of a part of the domain's text that no finetune was trained on.

    python -m benchmarks.replay [--quick] [--prompts N] [--tokens N] [--steps N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from peft import PeftModel
from rich.console import Console
from rich.table import Table

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.demo import corpus, smollm2, training
from deltadex.demo.specification import Schedule
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.replies import replay
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.engine.text_requests import Replay
from deltadex.replay.agreement import Agreement, Estimate

#: Domain, part of its text, and seed of each finetune; all are compared with the first.
_FINETUNES = {
    "keeper": ("legal", 1, 0),
    "another seed": ("legal", 1, 1),
    "another part of the domain": ("legal", 2, 0),
    "another domain": ("sql", 1, 0),
}
_MERGE = "its merge into the base"
_UNSEEN_PART = 3
#: Words of a prompt, and the distance between the beginnings of two.
_WORDS, _EVERY = 12, 24


@dataclass(frozen=True)
class Measured:
    """One replay.

    Attributes
    ----------
    embeddings
        Its processor time in embeddings of the keeper, by prompts × tokens.
    """

    other: str
    agreement: Agreement
    seconds: float
    embeddings: float


def main(arguments: Sequence[str] | None = None) -> None:
    options, console = _options(arguments), Console()
    schedule = Schedule(steps=options.steps, batch=4, length=48, learning_rate=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with console.status("training"):
            base, folders = _build(options.data_dir, schedule)
        measured = _measure(base, folders, _prompts(options.prompts), tokens=options.tokens, console=console)
    _show(measured, console)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in measured], indent=2))


def _build(folder: Path, schedule: Schedule) -> tuple[Path, Mapping[str, Path]]:
    """Return the base and the finetunes, which are made once."""
    base, home = folder / "base", folder / f"{schedule.steps} steps"
    if not base.exists():
        smollm2.save(smollm2.fetch(folder), base)
    tokenizer = training.load_tokenizer(base)
    folders = {name: home / name for name in (*_FINETUNES, _MERGE)}
    for name, (domain, part, seed) in _FINETUNES.items():
        if not folders[name].exists():
            model = training.new_adapter(training.load_base(base), seed=seed, declared_base="base")
            texts = [document.text for document in corpus.read_domain(domain)[part]]
            training.train(model, training.examples(tokenizer, texts, schedule.length), schedule, seed=seed)
            training.save(model, folders[name])
    if not folders[_MERGE].exists():
        adapted = PeftModel.from_pretrained(training.load_base(base, dtype="auto"), folders["keeper"])
        tokenizer.save_pretrained(folders[_MERGE])
        training.save(adapted.merge_and_unload(), folders[_MERGE])
    return base, folders


def _prompts(count: int) -> tuple[str, ...]:
    texts = [document.text.split() for document in corpus.read_domain("legal")[_UNSEEN_PART]]
    stretches = [" ".join(words[at : at + _WORDS]) for words in texts for at in range(0, len(words), _EVERY)]
    return tuple(dict.fromkeys(stretches))[:count]


def _measure(
    base: Path, folders: Mapping[str, Path], prompts: tuple[str, ...], *, tokens: int, console: Console
) -> list[Measured]:
    model = BaseModel(_local(base), "base", "float32", words=False)
    keeper = _local(folders["keeper"])
    engine, measured = Base(model), []
    engine.states()
    # Processor time: other load on the machine does not count in the ratio.
    before = time.process_time()
    list(engine.embed([Finetune(keeper, "keeper")]))
    of_embedding = time.process_time() - before
    console.print(f"one embedding: {of_embedding:.2f} s of processor time")
    for name in (_MERGE, *(name for name in _FINETUNES if name != "keeper")):
        started, before = time.perf_counter(), time.process_time()
        replies = replay(Replay((model, model), (keeper, _local(folders[name])), prompts, max_new_tokens=tokens))
        seconds, spent = time.perf_counter() - started, time.process_time() - before
        agreement = Agreement.of(replies)
        measured.append(Measured(name, agreement, seconds, spent / (len(prompts) * tokens * of_embedding)))
        console.print(f"{name}: {agreement.verdict} {seconds:.0f} s, {spent:.0f} s of processor time")
    return measured


def _local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def _show(measured: Sequence[Measured], console: Console) -> None:
    def shown(one: Estimate) -> str:
        return f"{one.value:.2f} ({one.low:.2f}–{one.high:.2f})"

    table = Table("keeper and", "equal", "common start", "gap (nats per token)", "s")
    for one in measured:
        found = one.agreement
        table.add_row(one.other, shown(found.equal), shown(found.common_start), shown(found.gap), f"{one.seconds:.0f}")
    console.print(table)
    ratios = Table("keeper and", "processor time ÷ (prompts × tokens × that of an embedding)")
    for one in measured:
        ratios.add_row(one.other, f"{one.embeddings:.3f}")
    console.print(ratios)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=Path(tempfile.gettempdir()) / "deltadex-replay")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.prompts, options.tokens, options.steps = 8, 8, 1
    return options


if __name__ == "__main__":
    main()
