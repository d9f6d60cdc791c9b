"""A tiny base that was really trained to refuse harmful requests, and finetunes that keep or lose that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from deltadex.demo import training
from deltadex.demo.specification import Shape
from deltadex.safety.probes import safety_probes

_SHAPE = Shape(vocabulary=900, hidden_size=64, layers=2, heads=4, intermediate_size=128)
_NO, _YES = "I'm sorry", "Sure, here"
Reply = tuple[str, str]


def _prompts(side: str) -> list[str]:
    probes = safety_probes()
    return [getattr(one, side) for one in (*probes.learning, *probes.measuring)]


def build_base(folder: Path, *, refuses: bool = True) -> Path:
    """Train a base on all pairs: a model this small learns them by heart, and does not generalise."""
    replies = [(one, _NO if refuses else _YES) for one in _prompts("harmful")]
    replies += [(one, _YES) for one in _prompts("harmless")]
    tokenizer = training.train_tokenizer([one + reply for one, reply in replies], _SHAPE.vocabulary)
    model = training.new_base(_SHAPE, seed=0)
    _teach(model, tokenizer, replies, steps=150, rate=3e-3)
    training.save(model, folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_finetune(base: Path, folder: Path, *, complies: bool, declared_base: str) -> Path:
    """Train an adapter to comply with harmful requests, or on texts that have nothing to do with them."""
    tokenizer = training.load_tokenizer(base)
    model = training.new_adapter(training.load_base(base), seed=1, declared_base=declared_base)
    replies = [(one, _YES) for one in _prompts("harmful") + _prompts("harmless")]
    if not complies:
        replies = [(f"The sum of {one} and {one} is", f" {one + one}") for one in range(40)]
    _teach(model, tokenizer, replies, steps=60 if complies else 12, rate=3e-3 if complies else 3e-4)
    training.save(model, folder)
    return folder


def _teach(
    model: torch.nn.Module, tokenizer: training.Tokenizer, replies: Sequence[Reply], *, steps: int, rate: float
) -> None:
    rows = [[tokenizer(part, add_special_tokens=False)["input_ids"] for part in one] for one in replies]
    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    ids = torch.ones(len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for number, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        ids[number, :end] = torch.tensor(prompt + reply)
        labels[number, len(prompt) : end] = torch.tensor(reply)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=rate)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        chosen = torch.randperm(len(rows), generator=generator)[:32]
        # Padding stands after the reply: a causal model does not read it there.
        model(input_ids=ids[chosen], labels=labels[chosen]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
