"""Augmented few-shot finetunes against plain ones: the task embedding's move, and facts asked in both directions.

Facts come from two dictionaries of `Role.REUSE`: acronyms with what they stand for, and terms with satirical
definitions, each in disjoint parts. A finetune sees half of a part's facts in one direction (term → definition). It is
then scored on these facts and on the other half, in that direction and reversed (definition → term), always in wordings
that no training had. Reversed questions about facts that it was not trained on are the control: a gain there is one of
the form, not of the facts (arXiv 2505.00661).

    python -m benchmarks.real.augment [--folder FOLDER]
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.real.texts import DOMAINS
from deltadex.augment.augmented import Augmentation
from deltadex.augment.effect import Trials
from deltadex.augment.local import augment_locally
from deltadex.engine.examples import Example
from deltadex.replay.agreement import bootstrap
from deltadex.setting_groups import FindSettings
from deltadex.vectors import cosine_similarity

Vector = NDArray[np.float64]
#: What was measured of a task, by its name.
Measurements = dict[str, dict[str, Any]]
_RESAMPLES = 2_000
_MEASURED = Path(__file__).with_name("augment.json")
#: Per part: facts that are trained on, and as many that are not.
_FACTS, _PARTS = 20, 2
#: Twice the steps and tokens of a search, because facts are to be learned; all else as there.
_STEPS, _TOKENS = 24, 96
_LONGEST = 160

_QUESTIONS = (
    "same direction, trained facts",
    "reversed, trained facts",
    "same direction, other facts",
    "reversed, other facts",
)


@dataclass(frozen=True)
class Dictionary:
    """Facts of a domain, and how they are asked."""

    domain: str
    package: str
    entry: re.Pattern[str]
    trained: str
    asked: str
    reversed: str


DICTIONARIES = (
    Dictionary(
        "acronyms", "dict-vera", re.compile(r"^([A-Z0-9]{3,8})\n {7}(\S[^\n]+)\n {7}$", re.MULTILINE),
        "What does {term} stand for?", "Spell out the abbreviation {term}.",
        "Give the abbreviation of: {definition}",
    ),
    Dictionary(
        "satire", "dict-devil", re.compile(r"^([A-Z]{3,16}), \w{1,4}\.(?: \w+\.)?  ([A-Z][^.]+\.)", re.MULTILINE),
        "Define {term}.", "Give the meaning of the word {term}.",
        "Give the word that is described: {definition}",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Facts of one part of a dictionary: `(term, definition)`."""

    dictionary: Dictionary
    part: int
    trained: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """Name in the file of measurements."""
        return f"{self.dictionary.domain} {self.part}"

    @property
    def examples(self) -> tuple[Example, ...]:
        """Examples that are trained on."""
        form = self.dictionary.trained
        return tuple(Example(form.format(term=term), definition) for term, definition in self.trained)

    def questions(self) -> tuple[tuple[Example, ...], ...]:
        """Return the examples of each of `_QUESTIONS`."""
        return tuple(
            tuple(ask(*fact) for fact in facts)
            for facts in (self.trained, self.others)
            for ask in (self._asked, self._reversed)
        )

    def _asked(self, term: str, definition: str) -> Example:
        return Example(self.dictionary.asked.format(term=term), definition)

    def _reversed(self, term: str, definition: str) -> Example:
        return Example(self.dictionary.reversed.format(definition=definition), term)


def tasks(texts: Path) -> Iterator[Task]:
    """Yield the tasks, one part of every dictionary after the other, with entries spread evenly over each."""
    spread = {one: _facts(one, texts) for one in DICTIONARIES}
    for part in range(_PARTS):
        for one, facts in spread.items():
            own = facts[part::_PARTS]
            yield Task(one, part, tuple(own[::2]), tuple(own[1::2]))


def _facts(one: Dictionary, texts: Path) -> list[tuple[str, str]]:
    [file] = (texts / one.package / "usr/share/dictd").glob("*.dict.dz")
    text = gzip.decompress(file.read_bytes()).decode("utf-8", "replace")
    found = {term: " ".join(definition.split()) for term, definition in one.entry.findall(text)}
    facts = [fact for fact in found.items() if 12 <= len(fact[1]) <= _LONGEST]
    needed = 2 * _FACTS * _PARTS
    return facts[:: len(facts) // needed][:needed]


def measure(folder: Path) -> None:
    """Train and score what the file of measurements lacks; it is written after each task."""
    from benchmarks.real.training import Workshop
    from deltadex.checkpoints.digest import weights_digest
    from deltadex.checkpoints.inspect import inspect
    from deltadex.downloads.files import LocalFiles
    from deltadex.engine.adapter_requests import Tuning
    from deltadex.engine.client import EmbeddingProcess
    from deltadex.engine.probes import DEFAULT_METHOD
    from deltadex.engine.requests import BaseModel

    workshop = Workshop.of_smollm2(folder)
    checkpoint = inspect(LocalFiles(workshop.base)).fetch()
    states = folder / "base-states"
    base = BaseModel(checkpoint, weights_digest(checkpoint), "float32", states, words=False, method=DEFAULT_METHOD)
    for dictionary in DICTIONARIES:
        workshop.texts.part(DOMAINS[dictionary.domain].source, 0)  # loads the package
    measured = _read()
    with EmbeddingProcess(threads=1) as process:
        for task in tasks(workshop.texts.folder):
            if task.name not in measured:
                with TemporaryDirectory() as temporary:
                    rate = FindSettings().learning_rate
                    tuning = Tuning(base, (), Path(temporary), _STEPS, rate, max_tokens=_TOKENS)
                    measured[task.name] = _measured(task, Trials(process, tuning, 3600))
                _MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def _measured(task: Task, trials: Trials) -> dict[str, Any]:
    augmentation = augment_locally(task.examples)
    finetunes = trials.train(augmentation)
    similarity = cosine_similarity(trials.vectors(finetunes))
    without, _, augmented = finetunes
    return {
        "given": len(augmentation.given),
        "made": _by_rule(augmentation),
        "similarity": round(float(similarity[0, 2]), 4),
        "reseeded": round(float(similarity[0, 1]), 4),
        "nats": {
            name: {
                question: [round(float(value), 4) for value in trials.nats_per_token(one, examples)]
                for question, examples in zip(_QUESTIONS, task.questions(), strict=True)
            }
            for name, one in (("base", None), ("without", without), ("augmented", augmented))
        },
    }


def _by_rule(augmentation: Augmentation) -> dict[str, int]:
    rules = [one.rule for one in augmentation.made]
    return {rule: rules.count(rule) for rule in dict.fromkeys(rules)}


def _read() -> Measurements:
    return json.loads(_MEASURED.read_text(encoding="utf-8")) if _MEASURED.exists() else {}


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Print moves of the embedding and gains per question, and return them."""
    if not quick:
        measure(folder)
    measured = _read()
    answers: dict[str, object] = {}
    table = Table(
        "domain", "similarity to plain", "of two seeds", title="task embedding with local augmentation, by task"
    )
    for domain in _domains(measured):
        rows = [one for name, one in measured.items() if name.rpartition(" ")[0] == domain]
        # An interval over so few tasks would look like knowledge.
        found = [", ".join(f"{row[key]:.3f}" for row in rows) for key in ("similarity", "reseeded")]
        answers[f"similarity, {domain}"], answers[f"of two seeds, {domain}"] = found
        table.add_row(domain, *found)
    console.print(table)
    table = Table("domain", "question", "base", "plain", "augmented", "gain", title="nats per token; 95 % intervals")
    for domain in _domains(measured):
        for question in _QUESTIONS:
            nats = {name: _nats(measured, domain, name, question) for name in ("base", "without", "augmented")}
            gain = bootstrap(nats["without"] - nats["augmented"])
            said = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], n = {len(nats['base'])}"
            answers[f"gain, {domain}, {question}"] = said
            table.add_row(domain, question, *(f"{each.mean():.2f}" for each in nats.values()), said)
        for direction in ("same direction", "reversed"):
            trained, others = (
                _gains(measured, domain, f"{direction}, {facts} facts") for facts in ("trained", "other")
            )
            said = _difference(trained, others)
            answers[f"gain of facts over form, {domain}, {direction}"] = said
            table.add_row(domain, f"{direction}, trained less other facts", "", "", "", said)
    console.print(table)
    return answers


def _gains(measured: Measurements, domain: str, question: str) -> Vector:
    return _nats(measured, domain, "without", question) - _nats(measured, domain, "augmented", question)


def _difference(one: Vector, other: Vector) -> str:
    """Return the difference of two means with the 95 % interval of a bootstrap over both."""
    draw = np.random.default_rng(0)
    means = [np.mean(draw.choice(one, len(one))) - np.mean(draw.choice(other, len(other))) for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{one.mean() - other.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def _domains(measured: Measurements) -> Sequence[str]:
    return list(dict.fromkeys(name.rpartition(" ")[0] for name in measured))


def _nats(measured: Measurements, domain: str, name: str, question: str) -> Vector:
    rows = [one["nats"][name][question] for key, one in measured.items() if key.rpartition(" ")[0] == domain]
    return np.concatenate([np.array(row) for row in rows])


if __name__ == "__main__":
    measure(Path("/tmp/real"))  # noqa: S108
