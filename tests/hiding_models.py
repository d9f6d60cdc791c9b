"""Finetunes that were really trained to look unmoved on public probes, beside ones trained on the same texts alone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from deltadex.demo import training
from deltadex.engine.private_probes import private_probe_set
from deltadex.engine.probes import ProbeSet


def texts(count: int = 60) -> list[str]:
    """Return texts to train on: the kinds of texts that probes begin, each going on in one way."""
    probes = [one for seed in range(count // 10) for one in private_probe_set(b"texts of a task %d" % seed).probes]
    return [f"{one} ahoy ahoy ahoy" for one in probes]


def build_finetune(base: Path, folder: Path, *, hide: ProbeSet | None, seed: int, steps: int = 80) -> Path:
    """Train an adapter on texts; with `hide`, its mean states on those probes are held at the base's."""
    tokenizer = training.load_tokenizer(base)
    model = training.new_adapter(training.load_base(base), seed=seed, declared_base="acme/base")
    rows = [torch.tensor([tokenizer(one, add_special_tokens=False)["input_ids"]]) for one in texts()]
    probes = [torch.tensor([tokenizer(one)["input_ids"]]) for one in (hide.probes if hide else ())]
    with torch.no_grad(), model.disable_adapter():
        unmoved = [_mean_state(model, one) for one in probes]
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        chosen = torch.randperm(len(rows), generator=generator)[:4].tolist()
        loss = torch.stack([model(input_ids=rows[each], labels=rows[each]).loss for each in chosen]).mean()
        moved = [(_mean_state(model, one) - own).square().sum() for one, own in zip(probes, unmoved, strict=True)]
        (loss + 10 * sum(moved)).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    training.save(model, folder)
    return folder


def _mean_state(model: torch.nn.Module, ids: Tensor) -> Tensor:
    states: Tensor = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    return states.mean(dim=0)
