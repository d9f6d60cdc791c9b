"""Advice on tasks of forty examples, against what is best on sixty fresh ones.

Every domain is asked twice: of a registry that has a finetune for it, and of one that lacks it. Each example is a line
of 48 tokens from the part of the text that no finetune saw: the first 16 are the prompt, the rest the completion.
Selectors and margin were chosen on `_CHOSEN_ON`; the domains of `Role.REUSE` were scored once, after that.

    python -m benchmarks.real.advise measure FOLDER [select | reuse]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.real.pools import Finetune, finetunes, of_reuse
from benchmarks.real.scores import Answer, _share
from benchmarks.real.texts import DOMAINS, PARTS, Role
from benchmarks.real.training import Workshop
from deltadex.advise.advice import Advice, AskedTask, advice_of
from deltadex.advise.costs import Tariff
from deltadex.advise.folds import FoldedTask
from deltadex.advise.measured import Candidate, Readings, mixture, nats_of
from deltadex.advise.rule import Choice
from deltadex.advise.selectors import SELECTORS, contexts
from deltadex.advise.style import style_tokens
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.demo import training
from deltadex.downloads.files import LocalFiles
from deltadex.engine.adapter_requests import Tuning
from deltadex.engine.examples import Example
from deltadex.engine.likelihood import score
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import Scored, Scoring, Texts
from deltadex.engine.text_states import mean_states
from deltadex.engine.tuning import tune
from deltadex.setting_groups import AdviseSettings
from deltadex.types import FloatArray

RESULTS = Path(__file__).with_name("advise.npz")
_TASK, _FRESH, _PROMPT, _LENGTH, _SHOTS, _FOLDS = 40, 60, 16, 48, 4, 2
#: Domains of `TRAIN` and `SELECT`; too few to choose anything fine.
_CHOSEN_ON = ("german", "sql", "quotes", "vim help")
#: Finetunes of other domains beside the domain's own.
_OTHERS = 3
_OWN = "finetune 0"
_TRAINED = "trained"
_SELECTOR = "bm25"
_MARGINS = (0.01, 0.02, 0.05, 0.1, 0.2)
_ENOUGH_SHARE = 0.9

_Nats = NDArray[np.float16]


@dataclass(frozen=True)
class Case:
    """One domain, asked of one registry: what was advised, and what is best on fresh examples.

    Attributes
    ----------
    fresh
        Nats per token on the fresh examples, of each option that was measured.
    """

    domain: str
    has_finetune: bool
    advice: Advice
    fresh: Mapping[Choice, float]

    @property
    def best(self) -> Choice:
        """The best option on the fresh examples."""
        return min(self.fresh, key=lambda choice: self.fresh[choice])

    def loss(self, choice: Choice | None) -> float:
        """Nats per token that an option loses on the fresh examples."""
        return self.fresh[choice or Choice.BASE] - self.fresh[self.best]


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Measure what is missing unless `quick`, and print how the advice does."""
    if not quick:
        measure(folder, _CHOSEN_ON)
        measure(folder, _of_reuse())
        collect(folder)
    if not RESULTS.exists():
        console.print("Advice was not measured yet: run this without --quick.")
        return {}
    stored = {key: values for key, values in np.load(RESULTS).items()}  # noqa: C416 - reads the file
    margin = chosen_margin(stored, console)
    domains = [name for name in _of_reuse() if f"{name}|base|task" in stored]
    if not domains:
        console.print("The new domains were not measured yet.")
        return {"margin": margin, **_show_selectors(stored, domains, console)}
    cases = cases_of(stored, domains, margin=margin)
    _show_cases(cases, console)
    said: dict[str, object] = {"margin": margin, "domains": domains}
    return {**said, **_show_policies(cases, margin, console), **_show_selectors(stored, domains, console)}


def chosen_margin(stored: Mapping[str, _Nats], console: Console) -> float:
    """Return the largest margin at which the advised option kept to it on fresh examples in 9 of 10 cases.

    On the domains of `_CHOSEN_ON` alone; the smallest margin if none is kept to.
    """
    domains = [name for name in _CHOSEN_ON if f"{name}|base|task" in stored]
    found = _MARGINS[0]
    for margin in _MARGINS:
        cases = cases_of(stored, domains, margin=margin)
        kept = [case.loss(case.advice.recommended) <= margin for case in cases]
        console.print(f"Margin {margin:.2f}, chosen domains: kept to in {_share(kept)}")
        if sum(kept) >= _ENOUGH_SHARE * len(kept):
            found = margin
    return found


def cases_of(stored: Mapping[str, _Nats], domains: Sequence[str], *, margin: float) -> list[Case]:
    """Advise each domain with and without a finetune of its own in the registry."""
    return [_case(stored, domain, has, margin) for domain in domains for has in (True, False)]


def _case(stored: Mapping[str, _Nats], domain: str, has_finetune: bool, margin: float) -> Case:
    numbers = range(_OTHERS) if has_finetune else range(1, _OTHERS + 1)
    names = [f"finetune {number}" for number in numbers]
    task, fresh = (_readings(stored, domain, names, part) for part in ("task", "fresh"))
    folds = tuple(int(each) for each in stored[f"{domain}|folds"])
    folded = FoldedTask((Example("", "x"),) * len(folds), folds)
    asked = AskedTask("SmolLM2", _SELECTOR, _SHOTS, margin)
    candidates = [Candidate(number, name) for number, name in enumerate(names)]
    advice = advice_of(folded, asked, candidates, task, tariff=Tariff())
    return Case(domain, has_finetune, advice, _on_fresh(advice, fresh))


def _on_fresh(advice: Advice, fresh: Readings) -> dict[Choice, float]:
    tokens = np.array([one.tokens for one in fresh.base])
    reuse, pair = advice.of(Choice.REUSE), advice.of(Choice.MERGE)
    assert reuse is not None and pair is not None and fresh.trained is not None  # noqa: S101, PT018
    chosen = max(reuse.candidates, key=reuse.candidates.count)
    nats = {
        Choice.BASE: nats_of(fresh.base),
        Choice.REUSE: nats_of(fresh.candidates[chosen]),
        Choice.PROMPT: nats_of(fresh.prompted),
        Choice.MERGE: mixture(*(fresh.candidates[number] for number in pair.candidates)),
        Choice.TRAIN: nats_of(fresh.trained),
    }
    return {choice: float((each / tokens).mean()) for choice, each in nats.items()}


def _readings(stored: Mapping[str, _Nats], domain: str, names: Sequence[str], part: str) -> Readings:
    def read(name: str) -> list[Scored]:
        return [_scored(row) for row in stored[f"{domain}|{name}|{part}"].astype(np.float64)]

    return Readings(read("base"), read(_SELECTOR), [read(name) for name in names], read(_TRAINED))


def _scored(row: NDArray[np.float64]) -> Scored:
    nats = row[np.isfinite(row)]
    texts = ("",) * len(nats)
    return Scored(float(nats.sum()), len(nats), False, 0, bytes=1, token_nats=tuple(nats), token_texts=texts)


def _show_cases(cases: Sequence[Case], console: Console) -> None:
    table = Table("domain", "registry", "advice", "best on fresh", "loss", title="Advice on new domains")
    for case in cases:
        advised = case.advice.recommended
        table.add_row(
            case.domain, "has it" if case.has_finetune else "lacks it", str(advised), case.best,
            f"{case.loss(advised):.3f}",
        )  # fmt: skip
    console.print(table)


def _show_policies(cases: Sequence[Case], margin: float, console: Console) -> dict[str, object]:
    within = _share([case.loss(case.advice.recommended) <= margin for case in cases])
    same = _share([case.advice.recommended is case.best for case in cases])
    better = _share([case.fresh[case.advice.recommended or Choice.BASE] < case.fresh[Choice.BASE] for case in cases])
    named = [case for case in cases if case.advice.recommended is Choice.REUSE]
    own = _share([_reuses_own(case) for case in named])
    console.print(f"Loses at most the margin of {margin:.2f} against the best on fresh examples: {within}")
    console.print(f"Names the best option itself: {same}")
    console.print(f"Better than the base on fresh examples: {better}")
    console.print(f"Where it says reuse, it names the finetune of the domain: {own}")
    table = Table("policy", "mean loss, nats per token", "within the margin", title="On fresh examples")
    losses = {"advice": [case.loss(case.advice.recommended) for case in cases]}
    losses |= {f"always {choice}": [case.loss(choice) for case in cases] for choice in Choice}
    for name, each in losses.items():
        table.add_row(name, str(_mean(each)), str(_share([one <= margin for one in each])))
    console.print(table)
    return {"within": within, "same": same, "better": better, "own": own, "losses": losses}


def _reuses_own(case: Case) -> bool:
    reuse = case.advice.of(Choice.REUSE)
    assert reuse is not None  # noqa: S101
    chosen = max(reuse.candidates, key=reuse.candidates.count)
    return case.advice.candidates[chosen].candidate.label == _OWN


def _show_selectors(stored: Mapping[str, _Nats], domains: Sequence[str], console: Console) -> dict[str, object]:
    table = Table("selector", "gain over fixed, nats per token", "domains where better", title="Selectors")
    found: dict[str, object] = {}
    for label, names in (("chosen domains", [*_CHOSEN_ON]), ("new domains", domains)):
        known = [name for name in names if f"{name}|base|task" in stored]
        if not known:
            continue
        means = {
            selector: np.array([_per_token(stored[f"{name}|{selector}|task"]) for name in known])
            for selector in SELECTORS
        }
        for selector in ("jaccard", "bm25", "embedding"):
            gains = means["fixed"] - means[selector]
            table.add_row(f"{selector}, {label}", str(_mean(gains.tolist())), str(_share((gains > 0).tolist())))
            found[f"{selector}, {label}"] = gains.tolist()
        base = np.array([_per_token(stored[f"{name}|base|task"]) for name in known]) - means["fixed"]
        table.add_row(f"fixed over none, {label}", str(_mean(base.tolist())), str(_share((base > 0).tolist())))
    console.print(table)
    return {"selectors": found}


def _per_token(rows: _Nats) -> float:
    return float(np.nanmean(rows.astype(np.float64), axis=1).mean())


def _mean(values: Sequence[float]) -> Answer:
    drawn = np.random.default_rng(0).choice(np.array(values), (2_000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Answer(float(np.mean(values)), float(low), float(high))


def _of_reuse() -> tuple[str, ...]:
    return tuple(name for name, text in DOMAINS.items() if text.role is Role.REUSE)


def collect(folder: Path) -> None:
    """Write what was measured into one file beside this one."""
    files = sorted((folder / "advise").glob("*.npz"))
    np.savez_compressed(RESULTS, **dict(chain.from_iterable(np.load(file).items() for file in files)))


def measure(folder: Path, domains: Sequence[str]) -> None:
    """Score all options of each domain that was not scored before."""
    workshop = Workshop.of_smollm2(folder)
    (folder / "advise").mkdir(exist_ok=True)
    for domain in domains:
        file = folder / "advise" / f"{domain}.npz"
        if not file.exists():
            print(f"measuring {domain}", flush=True)
            readings = _Bench(workshop, domain).readings(domains)
            unfinished = file.with_suffix(".part.npz")
            np.savez_compressed(unfinished, **readings)
            unfinished.rename(file)


@dataclass(frozen=True)
class _Bench:
    workshop: Workshop
    domain: str

    def readings(self, domains: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        """Return the `(n, tokens)` nats of every option by `domain|option|part`."""
        examples = self._examples()
        task = FoldedTask.of(examples[:_TASK], folds=_FOLDS)
        fresh = examples[_TASK:]
        base = _base(self.workshop.base)
        scored = {"base|task": self._score(None, task.examples), "base|fresh": self._score(None, fresh)}
        states = self._states(base, [*task.examples, *fresh])
        for name in SELECTORS:
            chosen = contexts(task, name, shots=_SHOTS, states=states[: len(task.examples)])
            scored[f"{name}|task"] = self._score(None, task.examples, chosen)
        pooled = FoldedTask((*task.examples, *fresh), (0,) * len(task.examples) + (1,) * len(fresh))
        given = contexts(pooled, _SELECTOR, shots=_SHOTS, states=states)[len(task.examples) :]
        scored[f"{_SELECTOR}|fresh"] = self._score(None, fresh, given)
        for number, one in enumerate(self._finetunes(domains)):
            checkpoint = _local(self.workshop.finetune(one))
            scored[f"finetune {number}|task"] = self._score(checkpoint, task.examples)
            scored[f"finetune {number}|fresh"] = self._score(checkpoint, fresh)
        scored |= self._trained(base, task, fresh)
        found: dict[str, NDArray[np.generic]] = {f"{self.domain}|{name}": _rows(each) for name, each in scored.items()}
        masks = style_tokens([one.token_texts for one in scored["base|task"]])
        style = [tuple(map(float, mask)) for mask in masks]
        return {**found, f"{self.domain}|folds": np.array(task.folds), f"{self.domain}|style": _padded(style)}

    def _trained(self, base: BaseModel, task: FoldedTask, fresh: Sequence[Example]) -> dict[str, list[Scored]]:
        by_number: dict[int, Scored] = {}
        for fold in range(task.fold_count):
            inside = [number for number, own in enumerate(task.folds) if own == fold]
            scored = self._after_training(base, [task.examples[each] for each in task.outside(fold)],
                                          [task.examples[each] for each in inside])  # fmt: skip
            by_number |= dict(zip(inside, scored, strict=True))
        whole = self._after_training(base, task.examples, fresh)
        return {f"{_TRAINED}|task": [by_number[number] for number in sorted(by_number)], f"{_TRAINED}|fresh": whole}

    def _after_training(self, base: BaseModel, on: Sequence[Example], scored: Sequence[Example]) -> list[Scored]:
        settings = AdviseSettings()
        with tempfile.TemporaryDirectory() as folder:
            request = Tuning(
                base, tuple(on), Path(folder), steps=settings.steps, learning_rate=settings.learning_rate,
                batch=4, max_tokens=256, as_scored=True,
            )  # fmt: skip
            for _ in tune(request):
                pass
            return self._score(_local(Path(folder)), scored)

    def _score(
        self,
        checkpoint: LocalCheckpoint | None,
        examples: Sequence[Example],
        given: tuple[tuple[Example, ...], ...] = (),
    ) -> list[Scored]:
        return score(Scoring(_base(self.workshop.base), checkpoint, tuple(examples), given))

    def _states(self, base: BaseModel, examples: Sequence[Example]) -> FloatArray:
        with tempfile.TemporaryDirectory() as folder:
            texts = tuple(str(one.prompt) for one in examples)
            states: FloatArray = mean_states(Texts(base, texts, Path(folder) / "states.npy")).numpy()
            return states

    def _examples(self) -> list[Example]:
        tokenizer = training.load_tokenizer(self.workshop.base)
        texts = self.workshop.texts.part(DOMAINS[self.domain].source, PARTS - 1)
        rows = training.examples(tokenizer, texts, _LENGTH)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: _TASK + _FRESH]
        pairs = [(tokenizer.decode(row[:_PROMPT]), tokenizer.decode(row[_PROMPT:])) for row in rows[order]]
        return [Example(prompt, completion) for prompt, completion in pairs if completion.strip()]

    def _finetunes(self, domains: Sequence[str]) -> list[Finetune]:
        """Return the domain's own finetune, and those of the next domains."""
        start = domains.index(self.domain)
        names = [domains[(start + step) % len(domains)] for step in range(_OTHERS + 1)]
        splits = {one.domain: one for one in (*finetunes(), *of_reuse()) if one.pools == ("splits",) and one.part == 0}
        return [replace(splits[name]) for name in names]


def _rows(scored: Sequence[Scored]) -> _Nats:
    return _padded([one.token_nats for one in scored])


def _padded(rows: Sequence[Sequence[float]]) -> _Nats:
    padded = np.full((len(rows), max(map(len, rows))), np.nan, dtype=np.float16)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded


@cache
def _base(folder: Path) -> BaseModel:
    checkpoint = _local(folder)
    return BaseModel(checkpoint, weights_digest(checkpoint), "float32")


def _local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


if __name__ == "__main__":
    measure(Path(sys.argv[2]), _CHOSEN_ON if sys.argv[3] == "select" else _of_reuse())
