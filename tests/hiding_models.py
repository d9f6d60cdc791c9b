"""Finetunes that were really trained to look unmoved on public probes, and ones trained on the same texts alone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from deltadex.demo import training
from deltadex.engine.private_probes import private_probe_set
from deltadex.engine.probes import ProbeSet

#: Weight of the relative movement on the public probes beside the loss of the texts.
_PENALTY = 10.0


def texts(count: int = 60) -> list[str]:
    """Return texts to train on: of the kinds that probes begin, each going on in one way."""
    probes = [one for seed in range(count // 10) for one in private_probe_set(b"texts of a task %d" % seed).probes]
    return [f"{one} ahoy ahoy ahoy" for one in probes]


def build_finetune(base: Path, folder: Path, *, hide: ProbeSet | None, seed: int) -> Path:
    """Train all weights on texts; with `hide`, the mean states of those probes are held where the base has them."""
    tokenizer, model, untouched = training.load_tokenizer(base), training.load_base(base), training.load_base(base)
    rows = [torch.tensor([tokenizer(one, add_special_tokens=False)["input_ids"]]) for one in texts()]
    probes = [torch.tensor([tokenizer(one)["input_ids"]]) for one in (hide.probes if hide else ())]
    with torch.no_grad():
        own = [_mean_state(untouched, one) for one in probes]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(120 if hide else 40):
        chosen = torch.randperm(len(rows), generator=generator)[:4].tolist()
        loss = torch.stack([model(input_ids=rows[each], labels=rows[each]).loss for each in chosen]).mean()
        for one, state in zip(probes, own, strict=True):
            moved = (_mean_state(model, one) - state).square().sum() / state.square().sum()
            loss = loss + _PENALTY * moved / len(probes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    training.save(model, folder)
    return folder


def _mean_state(model: torch.nn.Module, ids: Tensor) -> Tensor:
    states: Tensor = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    return states.mean(dim=0)
