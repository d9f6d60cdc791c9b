"""A tiny base that was really trained to copy pairs of syllables, and finetunes of it that swap or double them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from deltadex.demo import training
from deltadex.demo.specification import Schedule, Shape
from deltadex.engine.examples import Example

SYLLABLES = tuple(f"{start}{end}" for start in "bdfgklmnprst" for end in "aeiou")
#: What a task does to two syllables.
TASKS: dict[str, Callable[[str, str], str]] = {
    "copy": lambda one, other: f"{one} {other}",
    "swap": lambda one, other: f"{other} {one}",
    "double": lambda one, other: f"{one} {one}",
}
_SHAPE = Shape(vocabulary=400, hidden_size=64, layers=2, heads=4, intermediate_size=128)
_LENGTH = 16


def examples(task: str, count: int, *, seed: int) -> list[Example]:
    """Return examples with different prompts."""
    draw, found = random.Random(seed), {}  # noqa: S311 - no secret
    while len(found) < count:
        pair = draw.choice(SYLLABLES), draw.choice(SYLLABLES)
        found[pair] = Example(f"{task} {pair[0]} {pair[1]} ->", f" {TASKS[task](*pair)}")
    return list(found.values())


def build_base(folder: Path) -> Path:
    """Train a base that copies, whatever the task is called."""
    lines = [_line(one, name) for name in TASKS for one in examples("copy", 900, seed=1)]
    random.Random(0).shuffle(lines)  # noqa: S311 - no secret
    tokenizer = training.train_tokenizer(lines, _SHAPE.vocabulary)
    model = training.new_base(_SHAPE, seed=0)
    data = training.examples(tokenizer, ["".join(lines)], _LENGTH)
    training.train(model, data, Schedule(500, 32, _LENGTH, 3e-3), seed=0)
    training.save(model, folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_finetune(base: Path, folder: Path, task: str, *, declared_base: str) -> Path:
    """Train an adapter for a task."""
    model = training.new_adapter(training.load_base(base), seed=1, declared_base=declared_base)
    lines = [_line(one, task) for one in examples(task, 900, seed=2)]
    data = training.examples(training.load_tokenizer(base), ["".join(lines)], _LENGTH)
    training.train(model, data, Schedule(300, 32, _LENGTH, 5e-3), seed=1)
    training.save(model, folder)
    return folder


def _line(example: Example, task: str) -> str:
    return f"{task} {str(example.prompt).partition(' ')[2]}{example.completion}\n"
