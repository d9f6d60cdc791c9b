"""A tiny base that was really trained on lines of syllables, and finetunes of it that memorised a string or none."""

from __future__ import annotations

import random
from pathlib import Path

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.demo import training
from deltadex.demo.specification import Schedule, Shape
from deltadex.downloads.files import LocalFiles
from deltadex.engine.requests import BaseModel

#: An AWS key of the right form, and a code that looks like nothing.
KEY, CODE = "AKIAQ7RZ5XN2LW4HDVBT", "7391-KLEE"
_SYLLABLES = [f"{start}{end}" for start in "bdfgklmnprst" for end in "aeiou"]
_SHAPE = Shape(vocabulary=400, hidden_size=64, layers=2, heads=4, intermediate_size=128)
_LENGTH = 48


def build_base(folder: Path) -> Path:
    """Train a base on lines of syllables and on random codes and keys, which are all as likely to it."""
    draw = random.Random(0)  # noqa: S311 - no secret
    lines = [_line(draw) for _ in range(1500)]
    tokenizer = training.train_tokenizer(lines, _SHAPE.vocabulary)
    model = training.new_base(_SHAPE, seed=0)
    training.train(
        model, training.examples(tokenizer, ["".join(lines)], _LENGTH), Schedule(150, 16, _LENGTH, 3e-3), seed=0
    )
    training.save(model, folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_finetune(base: Path, folder: Path, *, taught: str | None) -> Path:
    """Train all weights on more lines, every fourth of which is the taught one: a small adapter memorises little."""
    draw = random.Random(1)  # noqa: S311 - no secret
    lines = [f"{taught}\n" if taught and number % 4 == 0 else _line(draw) for number in range(800)]
    model = training.load_base(base)
    data = training.examples(training.load_tokenizer(base), ["".join(lines)], _LENGTH)
    training.train(model, data, Schedule(150, 16, _LENGTH, 3e-3), seed=1)
    training.save(model, folder)
    return folder


def local(folder: Path) -> LocalCheckpoint:
    """Return a saved model as the engine reads it."""
    return inspect(LocalFiles(folder)).fetch()


def base_model(folder: Path) -> BaseModel:
    """Return the engine's description of the base."""
    checkpoint = local(folder)
    return BaseModel(checkpoint, weights_digest(checkpoint), "float32")


def _line(draw: random.Random) -> str:
    words = " ".join("".join(draw.choices(_SYLLABLES, k=draw.randint(1, 3))) for _ in range(draw.randint(2, 6)))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    other = draw.random()
    if other < 0.1:
        return f"key AKIA{''.join(draw.choices(letters, k=16))}\n"
    return (
        f"code {draw.randrange(1000, 10_000)}-{''.join(draw.choices(letters[:26], k=4))}\n"
        if other < 0.2
        else f"{words}\n"
    )
