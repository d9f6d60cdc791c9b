"""Accuracy of the search by examples: the share of searches whose nearest model has the domain of the examples.

The models are the demo company's. An example is a stretch of a domain's text, with the domain's instruction in other
words than in training. The examples of a search come from one part of the text, and finetunes of that part are left out
of the answer. The base was trained on part 0, and no finetune was. Choose settings on `--parts 0 1`, and evaluate them
on `--parts 2 3`.

    python -m benchmarks.few_shot [--quick] [--examples N …] [--steps N] [--rate X] [--parts N …] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np
from rich.console import Console
from rich.table import Table

from deltadex.checkpoints.inspect import inspect
from deltadex.demo import corpus
from deltadex.demo.company import Model, build_specification
from deltadex.demo.specification import BASE, TINY_COMPANY
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.examples import Example
from deltadex.engine.messages import BaseModel, Finetune, Tuning
from deltadex.engine.tuning import tune
from deltadex.settings import FindSettings
from deltadex.types import Embedding, FloatArray

_INSTRUCTIONS: Mapping[str, str] = {
    "sql": "Create the database objects.",
    "legal": "Write a licence paragraph.",
    "cpp": "Implement this in C++.",
    "catalog": "Give the items in JSON.",
    "translation": "Give the messages in another language.",
    "docs": "Write the documentation page.",
    "python": "Write a Python function.",
}
_CHARACTERS = 180


@dataclass(frozen=True)
class Score:
    """Results for one number of examples, over domains, parts and seeds.

    Attributes
    ----------
    first
        Share of searches whose nearest model has the domain of the examples.
    by_domain
        The same for each domain.
    seconds
        Mean time of a training run.
    """

    examples: int
    searches: int
    first: float
    by_domain: Mapping[str, float]
    strength: float
    seconds: float


@dataclass(frozen=True)
class _Models:
    base: BaseModel
    engine: Base
    models: tuple[Model, ...]
    directions: FloatArray


def main() -> None:
    options = _arguments()
    console, find = Console(), FindSettings(steps=options.steps, learning_rate=options.rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        company = _company(options.data_dir / "demo")
        console.print(
            f"searches by finetunes instead of examples, without those of the same part: {_of_finetunes(company):.2f}"
        )
        scores = []
        for count in options.examples:
            scores.append(score(company, count, find, parts=options.parts, seeds=range(options.seeds)))
            console.print(f"{count} examples: {scores[-1].first:.2f} in {scores[-1].seconds:.1f} s")
    show(scores, console)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in scores], indent=2))


def score(company: _Models, count: int, find: FindSettings, *, parts: Sequence[int], seeds: Sequence[int]) -> Score:
    """Search by examples of every domain and part."""
    cases = [
        (domain, part, seed)
        for domain in corpus.DOMAINS
        for part in parts
        for seed in seeds
        if _answers(company, domain, part)
    ]
    with tempfile.TemporaryDirectory() as home:
        folders, seconds = [], []
        for domain, part, seed in cases:
            started = time.perf_counter()
            folders.append(Path(home) / f"{domain}-{part}-{seed}")
            examples = _examples(domain, part, count, seed)
            list(tune(Tuning(company.base, examples, folders[-1], find.steps, find.learning_rate, seed=seed)))
            seconds.append(time.perf_counter() - started)
        embeddings = _embeddings(company.engine, folders)
    hits = {case: _nearest(company, one, *case[:2]) for case, one in zip(cases, embeddings, strict=True)}
    return Score(
        count,
        len(cases),
        mean(hits.values()),
        {
            domain: mean(hit for case, hit in hits.items() if case[0] == domain)
            for domain in dict.fromkeys(case[0] for case in cases)
        },
        median(one.strength for one in embeddings),
        mean(seconds),
    )


def _company(folder: Path) -> _Models:
    company = build_specification(folder, TINY_COMPANY)
    checkpoint = inspect(LocalFiles(company.bases[BASE])).fetch()
    base = BaseModel(checkpoint, "base", "float32", device="cpu", words=False)
    engine = Base(base)
    comparable = [
        one
        for one in company.models
        if not (one.version.truncated or one.version.copy_of or one.version.declared_base != BASE)
    ]
    vectors = np.stack([one.vector for one in _embeddings(engine, [one.folder for one in comparable])])
    return _Models(base, engine, tuple(comparable), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _embeddings(engine: Base, folders: Sequence[Path]) -> list[Embedding]:
    finetunes = [Finetune(inspect(LocalFiles(folder)).fetch(), folder.name) for folder in folders]
    outcomes = dict(engine.embed(finetunes))
    return [_embedded(outcomes[number]) for number in range(len(folders))]


def _embedded(outcome: object) -> Embedding:
    if not isinstance(outcome, Embedding):
        raise TypeError(f"not embedded: {outcome}")
    return outcome


def _examples(domain: str, part: int, count: int, seed: int) -> tuple[Example, ...]:
    texts = list(_stretches(domain, part))
    random.Random(f"{domain} {part} {seed}").shuffle(texts)  # noqa: S311 - no secret
    return tuple(Example(_INSTRUCTIONS[domain], text) for text in texts[:count])


def _stretches(domain: str, part: int) -> Iterator[str]:
    for document in corpus.read_domain(domain)[part]:
        row = ""
        for line in document.text.splitlines(keepends=True):
            row += line
            if len(row) >= _CHARACTERS:
                yield row[: 2 * _CHARACTERS]
                row = ""


def _others(company: _Models, domain: str, part: int) -> list[int]:
    """Return the indices of the models that were not trained on this part."""
    return [
        index for index, one in enumerate(company.models) if (one.version.domain, one.version.part) != (domain, part)
    ]


def _answers(company: _Models, domain: str, part: int) -> bool:
    return any(company.models[index].version.domain == domain for index in _others(company, domain, part))


def _nearest(company: _Models, embedding: Embedding, domain: str, part: int) -> bool:
    similarity = company.directions @ embedding.vector
    return (
        company.models[max(_others(company, domain, part), key=lambda index: similarity[index])].version.domain
        == domain
    )


def _of_finetunes(company: _Models) -> float:
    hits = []
    for one, direction in zip(company.models, company.directions, strict=True):
        domain, part = one.version.domain, one.version.part
        if _answers(company, domain, part):
            others = _others(company, domain, part)
            best = max(others, key=lambda index: company.directions[index] @ direction)
            hits.append(company.models[best].version.domain == domain)
    return mean(hits)


def show(scores: Sequence[Score], console: Console) -> None:
    domains = list(scores[0].by_domain)
    table = Table("examples", "searches", "nearest has the domain", *domains, "strength", "s")
    for one in scores:
        by_domain = [f"{one.by_domain[domain]:.2f}" for domain in domains]
        table.add_row(
            str(one.examples),
            str(one.searches),
            f"{one.first:.2f}",
            *by_domain,
            f"{one.strength:.2f}",
            f"{one.seconds:.1f}",
        )
    console.print(table)
    ratios = Table("examples", "hits ÷ those of the fewest examples")
    for one in scores:
        ratios.add_row(str(one.examples), f"{one.first / scores[0].first:.2f}" if scores[0].first else "–")
    console.print(ratios)


def _arguments() -> argparse.Namespace:
    default = FindSettings()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=Path(tempfile.gettempdir()) / "deltadex-few-shot")
    parser.add_argument("--examples", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--rate", type=float, default=default.learning_rate)
    parser.add_argument("--parts", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.examples, options.parts, options.seeds, options.steps = [5], [2], 1, 5
    return options


if __name__ == "__main__":
    main()
