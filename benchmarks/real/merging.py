"""Merges of finetunes of SmolLM2, built, embedded and scored by the product's own process; each kept as it is measured.

`merge.py` scores what this module measures. It needs torch and the trained finetunes.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.real.pools import finetunes, of_reuse
from benchmarks.real.texts import DOMAINS, PARTS, Role
from benchmarks.real.training import LENGTH, Workshop
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.demo import training
from deltadex.downloads.files import LocalFiles
from deltadex.engine import messages
from deltadex.engine.adapter_requests import AdapterMerge, WeightSearch
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import Example
from deltadex.engine.probes import METHODS, MethodName
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import Scoring
from deltadex.errors import DeltadexError
from deltadex.merge.methods import MergeMethod

#: Examples by which a model is scored on a domain, and those that a search of weights gets, of the text that no
#: finetune was trained on.
SCORED, SEARCHED = 16, 16
_PROMPT = "### Text:\n"
_DEADLINE = 3600.0
DENSITY = 0.5
BUDGET = 40


@dataclass(frozen=True)
class Case:
    """Parents, each as domain and part, and how they are merged with equal weights."""

    parents: tuple[tuple[str, int], ...]
    method: MergeMethod

    @property
    def is_alike(self) -> bool:
        """True if all parents have one domain."""
        return len({domain for domain, _ in self.parents}) == 1


def sets(domains: Sequence[str], *, pairs: int, triples: int, alike: int) -> Iterator[tuple[tuple[str, int], ...]]:
    """Yield parents: pairs and triples of domains that are far apart in the list, and pairs of parts of a domain."""
    every = sorted(combinations(domains, 2), key=lambda pair: hashlib.sha256("|".join(pair).encode()).hexdigest())
    threes = sorted(combinations(domains, 3), key=lambda three: hashlib.sha256("|".join(three).encode()).hexdigest())
    for names in (*every[:pairs], *threes[:triples]):
        yield tuple((name, 0) for name in names)
    for name in domains[:alike]:
        yield ((name, 0), (name, 1))


def chosen_on() -> list[Case]:
    """Return the merges on which thresholds and the method by default are chosen."""
    names = [name for name, text in DOMAINS.items() if text.role in (Role.TRAIN, Role.SELECT)]
    fewer = list(sets(names, pairs=3, triples=0, alike=0))
    methods = (MergeMethod.SVD, MergeMethod.LINEAR, MergeMethod.TIES, MergeMethod.DARE_TIES)
    return [
        *(Case(one, MergeMethod.CAT) for one in sets(names, pairs=10, triples=2, alike=4)),
        *(Case(one, method) for method in methods for one in fewer),
    ]


def tested_on() -> list[Case]:
    """Return the merges of the test, of domains that nothing was chosen on."""
    names = [name for name, text in DOMAINS.items() if text.role is Role.REUSE]
    all_sets = list(sets(names, pairs=20, triples=6, alike=6))
    return [Case(one, MergeMethod.CAT) for one in all_sets]


def tasks() -> list[tuple[str, tuple[str, ...]]]:
    """Return domains of which a search gets examples, each with the domains of the adapters that it may weigh."""
    names = [name for name, text in DOMAINS.items() if text.role is Role.REUSE]
    return [(names[at], tuple(names[(at + step) % len(names)] for step in (1, 2, 4, 5, 7))) for at in (0, 3, 6, 9)]


class Measurer:
    """Measures, and keeps each measurement in a file of its own in the workshop's folder."""

    def __init__(self, workshop: Workshop, process: EmbeddingProcess) -> None:
        self._workshop = workshop
        self._process = process
        self._folder = workshop.folder / "merges"
        self._folder.mkdir(exist_ok=True)
        self._known = {(one.domain, one.part): one for one in (*finetunes(), *of_reuse()) if one.pools == ("splits",)}

    def measure(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Return what is measured of each merge, with the vectors and the losses of its parents and the base."""
        for case in cases:  # step by step: the process keeps the base loaded between requests of one kind
            self._built(case)
        self._embed([self._folder_of(case) for case in cases if self._conflict(case) is not None])
        pairs = {pair for case in cases for pair in case.parents}
        self._embed([self._workshop.finetune(self._known[pair]) for pair in sorted(pairs)])
        return [self._measured(case) for case in cases]

    def search(self, task: str, domains: Sequence[str]) -> dict[str, Any]:
        """Return the losses that a search of weights found on examples of a domain, and on others of it."""
        file = self._file("search", [task, domains, BUDGET])
        if not file.exists():
            adapters = tuple(self._checkpoint(self._workshop.finetune(self._known[name, 0])) for name in domains)
            examples = self._examples(task, SEARCHED + 2 * SCORED)
            request = WeightSearch(
                self._base, adapters, examples[:SEARCHED], examples[SEARCHED:], BUDGET, max_tokens=2 * LENGTH + 16
            )
            found = self._process.search_weights(request, deadline_seconds=_DEADLINE)
            file.write_text(json.dumps({"task": task, "domains": list(domains), **asdict(found)}))
        return dict(json.loads(file.read_text()))

    @cached_property
    def _base(self) -> BaseModel:
        checkpoint = self._checkpoint(self._workshop.base)
        states = self._folder / "states"
        return BaseModel(
            checkpoint, weights_digest(checkpoint), "float32", states, words=False, method=MethodName.CONTENT
        )

    @staticmethod
    def _checkpoint(folder: Path) -> LocalCheckpoint:
        return inspect(LocalFiles(folder)).fetch()

    @cached_property
    def _tokenizer(self) -> training.Tokenizer:
        return training.load_tokenizer(self._workshop.base)

    def _examples(self, domain: str, count: int) -> tuple[Example, ...]:
        """Return examples of the last part of a domain's text, which no split was trained on."""
        rows = training.examples(self._tokenizer, self._workshop.texts.part(DOMAINS[domain].source, PARTS - 1), LENGTH)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))[:count]
        return tuple(Example(_PROMPT, self._tokenizer.decode(row)) for row in rows[order])

    def _file(self, kind: str, content: object) -> Path:
        digest = hashlib.sha256(json.dumps([kind, content]).encode()).hexdigest()[:20]
        return self._folder / f"{kind}-{digest}.json"

    def _folder_of(self, case: Case) -> Path:
        return self._file("merge", asdict(case)).with_suffix("")

    def _built(self, case: Case) -> None:
        folder = self._folder_of(case)
        if (folder / "conflict.txt").exists():
            return
        folder.mkdir(exist_ok=True)
        adapters = tuple(self._checkpoint(self._workshop.finetune(self._known[pair])) for pair in case.parents)
        weights = case.method.default_weights(len(adapters))
        density = DENSITY if case.method.prunes else None
        made = AdapterMerge(self._base, "base", adapters, weights, case.method, folder, density)
        try:
            found = str(self._process.merge(made, deadline_seconds=_DEADLINE).conflict)
        except DeltadexError as error:
            found = error.message
        (folder / "conflict.txt").write_text(found)

    def _conflict(self, case: Case) -> float | None:
        text = (self._folder_of(case) / "conflict.txt").read_text()
        return float(text) if text[:1].isdigit() else None

    def _embed(self, folders: Sequence[Path]) -> None:
        name = f"vector-{METHODS[MethodName.CONTENT].digest[:8]}.npy"
        missing = [folder for folder in folders if not (folder / name).exists()]
        if not missing:
            return
        models = [messages.Finetune(one, weights_digest(one)) for one in map(self._checkpoint, missing)]
        for number, outcome in self._process.embed(self._base, models, deadline_seconds=_DEADLINE):
            if isinstance(outcome, DeltadexError):
                raise outcome
            np.save(missing[number] / name, outcome.vector)

    def parents(self, cases: Sequence[Case]) -> dict[str, str]:
        """Return the embedding of each parent by its domain and part."""
        pairs = sorted({pair for case in cases for pair in case.parents})
        return {
            f"{domain} {part}": self._vector(self._workshop.finetune(self._known[domain, part]))
            for domain, part in pairs
        }

    def _vector(self, folder: Path) -> str:
        """Return an embedding as float16, which moves no similarity by more than .001, in base 64."""
        name = f"vector-{METHODS[MethodName.CONTENT].digest[:8]}.npy"
        return b64encode(np.load(folder / name).astype("<f2").tobytes()).decode()

    def _nats(self, folder: Path | None, domain: str) -> float:
        """Return the loss of a model on a domain, in nats per token."""
        file = self._file("nats", [folder.name if folder else "base", domain, SCORED])
        if not file.exists():
            checkpoint = self._checkpoint(folder) if folder else None
            request = Scoring(self._base, checkpoint, self._examples(domain, SCORED), max_tokens=2 * LENGTH + 16)
            scored = self._process.score(request, deadline_seconds=_DEADLINE)
            file.write_text(json.dumps(sum(one.nats for one in scored) / sum(one.tokens for one in scored)))
        return float(json.loads(file.read_text()))

    def _measured(self, case: Case) -> dict[str, Any]:
        conflict, folder = self._conflict(case), self._folder_of(case)
        parents = [self._workshop.finetune(self._known[pair]) for pair in case.parents]
        texts = list(dict.fromkeys(domain for domain, _ in case.parents))
        found: dict[str, Any] = {"parents": [list(pair) for pair in case.parents], "method": case.method.value}
        if conflict is None:
            return {**found, "refused": (folder / "conflict.txt").read_text()}
        return {
            **found,
            "conflict": conflict,
            "vector": self._vector(folder),
            "texts": texts,
            "merge": [self._nats(folder, text) for text in texts],
            "base": [self._nats(None, text) for text in texts],
            "single": [self._nats(one, domain) for one, (domain, _) in zip(parents, case.parents, strict=True)],
        }


SETS = ("choose", "test", "tasks")


def main(folder: Path, which: str) -> dict[str, list[dict[str, Any]] | dict[str, str]]:
    """Measure one of the sets, or read what was measured of it; return its rows, and the embeddings of the parents."""
    torch.set_num_threads(1)
    with EmbeddingProcess(threads=1) as process:
        measurer = Measurer(Workshop.of_smollm2(folder), process)
        if which == "tasks":
            return {which: [measurer.search(task, domains) for task, domains in tasks()]}
        cases = chosen_on() if which == "choose" else tested_on()
        return {which: measurer.measure(cases), f"parents of {which}": measurer.parents(cases)}


def write(folder: Path, file: Path, which: Sequence[str] = SETS) -> None:
    """Write what was measured of some sets."""
    found = {key: value for name in which for key, value in main(folder, name).items()}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
