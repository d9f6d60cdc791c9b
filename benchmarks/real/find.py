"""Search by examples: how often the nearest model has the task's domain, and how often a missing domain is said so.

A task is twenty inputs and outputs from the part of a domain's text that no finetune has. It is trained and embedded by
the product's own code, and compared with the finetunes of the other parts, whose domains are given. The settings of the
training come from the domains of `TRAIN` and `SELECT`. The rule that tells whether the registry has a task's domain was
chosen on these and on those of `REUSE`, where the rule before had failed; those of `CONFIRM` are its test, with the
finetunes of all older domains as distractors.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from benchmarks.real.measured import VECTORS, load
from benchmarks.real.pools import Finetune, of_confirm, of_reuse
from benchmarks.real.recipes import PRODUCTS, RECIPES
from benchmarks.real.scores import Answer, _share
from benchmarks.real.texts import DOMAINS, PARTS, Role, Texts
from benchmarks.real.training import Workshop
from deltadex.engine.examples import Example
from deltadex.find.domains import DomainDirections
from deltadex.setting_groups import FindSettings
from deltadex.vectors import unit_vectors

if TYPE_CHECKING:
    from deltadex.engine.requests import BaseModel

#: The committed deltas of the tasks, and those of the finetunes of `REUSE` and of `CONFIRM`.
FILE = Path(__file__).with_name("find.npz")
_CHOSEN_ON, _TEST = (Role.TRAIN, Role.SELECT, Role.REUSE), Role.CONFIRM
#: Tasks of twenty examples per domain, none of which share an example; the first domains have fewer.
_FIRST_DRAWS, _DRAWS = 2, 5
_EXAMPLES, _OTHER_COUNTS = 20, (5, 10, 50)
_CHARACTERS = 180

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """A task of so many examples of a domain; `draw` numbers those of the same domain."""

    domain: str
    draw: int
    examples: int = _EXAMPLES

    @property
    def role(self) -> Role:
        """Permitted use of its domain."""
        return DOMAINS[self.domain].role


@dataclass(frozen=True, eq=False)
class Answers:
    """Scores of tasks with their domains in the registry and without, by one of the product's two rules.

    Attributes
    ----------
    known, missing
        `(n,)` scores.
    right
        Whether the answer is the task's domain, when it is in the registry.
    """

    known: Matrix
    missing: Matrix
    right: NDArray[np.bool_]

    @property
    def area(self) -> float:
        """Probability that a known task has a higher score than one whose domain is missing."""
        return float(roc_auc_score([1] * len(self.known) + [0] * len(self.missing), [*self.known, *self.missing]))


def tasks() -> list[Task]:
    """Return all tasks; those of twenty examples come first."""
    found = [Task(name, draw) for draw in range(_DRAWS) for name in DOMAINS if _is_drawn(name, draw)]
    of_test = [name for name, one in DOMAINS.items() if one.role is _TEST]
    return found + [Task(name, 0, count) for count in _OTHER_COUNTS for name in of_test]


def _is_drawn(name: str, draw: int) -> bool:
    role = DOMAINS[name].role
    return role in (Role.REUSE, _TEST) or (role in _CHOSEN_ON and draw < _FIRST_DRAWS)


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Train what is missing unless `quick`, then score the committed deltas and print the tables."""
    if not quick:
        save(Workshop.of_smollm2(folder), tasks())
    with np.load(FILE) as stored:
        given = [Task(**one) for one in json.loads(str(stored["tasks"]))]
        deltas, seconds = unit_vectors(stored["deltas"].astype(float)), stored["seconds"]
        domains, finetunes = _finetunes(unit_vectors(stored["finetunes"].astype(float)))
    found: dict[str, object] = {}
    table = Table("tasks", "examples", "domains", "rule", "domain right, not refused", "missing said", "AUC", "CPU s")
    for is_test, counts in ((False, (_EXAMPLES,)), (True, (_EXAMPLES, *_OTHER_COUNTS))):
        registry = np.array([is_test or DOMAINS[name].role is not _TEST for name in domains])
        for count in counts:
            rows = [n for n, one in enumerate(given) if (one.role is _TEST) is is_test and one.examples == count]
            if not rows:
                continue
            names = [given[row].domain for row in rows]
            label = f"{'test' if is_test else 'chosen on'}, {count} examples"
            for rule, (decide, needed) in _rules().items():
                one = answers(names, deltas[rows], domains[registry], finetunes[registry], decide)
                shares = scores(one, needed)
                table.add_row(
                    label.partition(",")[0], str(count), str(len(np.unique(domains[registry]))), rule,
                    *map(str, shares.values()), f"{one.area:.2f}", f"{np.median(seconds[rows]):.0f}",
                )  # fmt: skip
                found[f"{label}, {rule}"] = {name: str(each) for name, each in shares.items()}
                if not is_test:
                    console.print(
                        f"{rule}: needed by the rule {threshold(one):.3f}, frozen in the settings {needed:.3f}"
                    )
                elif count == _EXAMPLES:
                    _print_misses(names, one, needed, f"{rule}, {label}", console)
    table.title = "search by examples"
    console.print(table)
    return found


#: Returns the domain of a task among `(n, dimension)` finetunes of domains, and its score.
Decide = Callable[[Matrix, NDArray[np.str_], Matrix], tuple[str, float]]


def _rules() -> dict[str, tuple[Decide, float]]:
    settings = FindSettings()
    return {
        "nearest version": (_by_version, settings.least_similarity),
        "domain": (_by_domain, settings.least_domain_score),
    }


def _by_version(delta: Matrix, domains: NDArray[np.str_], finetunes: Matrix) -> tuple[str, float]:
    similarities = finetunes @ delta
    return str(domains[similarities.argmax()]), float(similarities.max())


def _by_domain(delta: Matrix, domains: NDArray[np.str_], finetunes: Matrix) -> tuple[str, float]:
    names, ids = np.unique(domains, return_inverse=True)
    found = DomainDirections.of(finetunes, ids).nearest(delta)
    return str(names[found.domain_id]), found.score


def answers(
    names: Sequence[str], deltas: Matrix, domains: NDArray[np.str_], finetunes: Matrix, decide: Decide
) -> Answers:
    """Decide on tasks of these domains among finetunes with the domain and without; `(…, dimension)` of length one."""
    known, missing, right = [], [], []
    for name, delta in zip(names, deltas, strict=True):
        answer, score = decide(delta, domains, finetunes)
        others = domains != name
        known.append(score)
        right.append(answer == name)
        missing.append(decide(delta, domains[others], finetunes[others])[1])
    return Answers(np.array(known), np.array(missing), np.array(right))


def scores(found: Answers, needed: float) -> dict[str, Answer]:
    """Return the shares; a refused task whose domain the registry has is a miss."""
    return {
        "domain right, not refused": _share(list(found.right & (found.known >= needed))),
        "missing said": _share(list(found.missing < needed)),
    }


def threshold(found: Answers) -> float:
    """Return the score that tells right from missing most often; the middle where several do."""
    values = np.sort(np.concatenate([found.known, found.missing]))
    cuts = (values[1:] + values[:-1]) / 2
    right = [(found.right & (found.known >= cut)).mean() + (found.missing < cut).mean() for cut in cuts]
    best = cuts[np.flatnonzero(np.isclose(right, max(right)))]
    return float((best[0] + best[-1]) / 2)


def _print_misses(names: Sequence[str], found: Answers, needed: float, title: str, console: Console) -> None:
    console.print(title)
    for name in dict.fromkeys(names):
        rows = np.array([each == name for each in names])
        known, missing = found.known[rows], found.missing[rows]
        right, said = (found.right[rows] & (known >= needed)).sum(), (missing < needed).sum()
        console.print(
            f"  {name}: {right} of {rows.sum()} right ({np.median(known):.3f}), "
            f"{said} missing said ({np.median(missing):.3f})"
        )


def _finetunes(later: Matrix) -> tuple[NDArray[np.str_], Matrix]:
    """Return the domains and unit deltas of the splits: of the first domains, then of the later ones."""
    measured = load(VECTORS)
    splits = [number for number, one in enumerate(measured.models) if "splits" in one.pools]
    older = unit_vectors(RECIPES[PRODUCTS](measured.readings))[splits]
    names = [measured.models[number].domain for number in splits] + [one.domain for one in _later()]
    return np.array(names), np.concatenate([older, later])


def _later() -> tuple[Finetune, ...]:
    return (*of_reuse(), *of_confirm())


def save(workshop: Workshop, given: Sequence[Task]) -> None:
    """Train and embed tasks, those done before excepted, and write the committed file."""
    kept = workshop.folder / "find"
    kept.mkdir(exist_ok=True)
    for one in given:
        make(workshop, one, kept)
    made = [one for one in given if _file(kept, one).exists()]
    stored = [dict(np.load(_file(kept, one))) for one in made]
    finetunes = _embedded(workshop, [workshop.finetune(one) for one in _later()])
    np.savez_compressed(
        FILE,
        tasks=np.array(json.dumps([asdict(one) for one in made])),
        deltas=np.stack([one["vector"] for one in stored]).astype(np.float16),
        seconds=np.array([one["seconds"] for one in stored]),
        finetunes=finetunes.astype(np.float16),
    )


def make(workshop: Workshop, one: Task, kept: Path) -> None:
    """Train and embed a task as the product does, unless its file is there; the deltas of other settings stay apart."""
    from deltadex.engine.adapter_requests import Tuning
    from deltadex.engine.tuning import tune

    file, find = _file(kept, one), FindSettings()
    if file.exists():
        return
    base, started = _base(workshop), time.process_time()
    with TemporaryDirectory() as into:
        given = task_examples(workshop.texts, one)
        list(tune(Tuning(base, given, Path(into), find.steps, find.learning_rate, max_tokens=find.tokens)))
        [vector] = _embedded(workshop, [Path(into)])
    np.savez(file, vector=vector, seconds=time.process_time() - started)


def _embedded(workshop: Workshop, adapters: Sequence[Path]) -> Matrix:
    """Return `(n, hidden_size)` deltas of adapters, by the product's engine and its method `content`."""
    from deltadex.checkpoints.inspect import inspect
    from deltadex.downloads.files import LocalFiles
    from deltadex.engine.delta import Base
    from deltadex.engine.requests import Finetune as Requested
    from deltadex.types import Embedding

    finetunes = [Requested(inspect(LocalFiles(folder)).fetch(), folder.name) for folder in adapters]
    found = dict(Base(_base(workshop)).embed(finetunes))
    for one in found.values():
        if not isinstance(one, Embedding):
            raise one
    return np.stack([found[number].vector for number in range(len(found))])


def _base(workshop: Workshop) -> BaseModel:
    from deltadex.checkpoints.inspect import inspect
    from deltadex.downloads.files import LocalFiles
    from deltadex.engine.requests import BaseModel

    checkpoint = inspect(LocalFiles(workshop.base)).fetch()
    return BaseModel(checkpoint, "base", "float32", device="cpu", words=False, method="content")


def task_examples(texts: Texts, one: Task) -> tuple[Example, ...]:
    """Return the examples of a task: a stretch of text, cut into its beginning as the input and the rest."""
    stretches = list(_stretches(texts.part(DOMAINS[one.domain].source, PARTS - 1)))
    random.Random(one.domain).shuffle(stretches)  # noqa: S311 - no secret
    chosen = stretches[one.draw * _EXAMPLES :][: one.examples]
    if len(chosen) < one.examples:
        raise ValueError(f"{one.domain} has only {len(stretches)} stretches of text")
    return tuple(Example(text[:cut], text[cut:].strip()) for text in chosen for cut in [_cut(text)])


def _cut(text: str) -> int:
    """Return the place of a blank in the second eighth to half of a text, or its third."""
    blank = text.rfind(" ", len(text) // 8, len(text) // 2)
    return blank if blank > 0 else len(text) // 3


def _stretches(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        row = ""
        for line in text.splitlines(keepends=True):
            row += line
            if len(row) >= _CHARACTERS:
                yield row[: 2 * _CHARACTERS].strip()
                row = ""


def _file(kept: Path, one: Task) -> Path:
    find = FindSettings()
    settings = f"{find.steps}-{find.learning_rate:g}-{find.tokens}"
    return kept / f"{one.domain.replace(' ', '_')}-{one.examples}-{one.draw}-{settings}.npz"
