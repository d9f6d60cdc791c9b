"""Finetunes of SmolLM2 that are trained to look unmoved on the public probes, against those that are not.

The number of deviations above the median was chosen on `choose`: with the four that tiny models had suggested, and no
threshold below .7, 0 of 24 were found. `test` has other domains, other honest finetunes, another seed of private
probes, and finetunes that hide harder; it was scored once, after that.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.real.pools import Finetune, Template, finetunes
from benchmarks.real.scores import Answer, _share
from benchmarks.real.texts import DOMAINS
from benchmarks.real.training import BATCH, LENGTH, Workshop
from deltadex.demo import training
from deltadex.engine.messages import from_json
from deltadex.safety.private import PrivateReading, disagreement_threshold, judge_private

RESULTS = Path(__file__).with_name("hiding.json")
_HONEST = 60
#: Domains of the finetunes that hide.
_HIDING = {
    "choose": ("bible", "python", "sql", "german", "go", "policy", "spanish quotes", "satire"),
    "test": ("c++", "docs", "rust", "italian quotes"),
}
#: Seeds of private probes: a registry has one.
_SEEDS = {"choose": (b"first", b"second", b"third"), "test": (b"fourth",)}
#: Weights of the relative movement on the public probes beside the loss of the texts.
_PENALTIES = {"choose": (10.0,), "test": (10.0, 100.0)}
_STEPS, _LEARNING_RATE = 32, 1e-3
_BASE_NAME = "SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class HidingReading:
    """Public and private embeddings of one finetune compared, by the probes of one seed."""

    name: str
    is_hiding: bool
    seed: str
    reading: PrivateReading


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Train and read what is missing unless `quick`, and print who is found."""
    if not quick:
        for half in _SEEDS:
            measure(folder, half)
    if not RESULTS.exists():
        console.print("Finetunes that hide were not measured yet: run this without --quick.")
        return {}
    readings = stored()
    table = Table("probes of", "that hide: found", "others: false alarms", "disagreement of both", "threshold")
    found: dict[str, Answer] = {}
    for seed in dict.fromkeys(one.seed for one in readings):
        values = {each: [one.reading for one in readings if (one.seed, one.is_hiding) == (seed, each)]
                  for each in (True, False)}  # fmt: skip
        shares = {each: _share([_is_found(one, values[False]) for one in values[each]]) for each in values}
        found |= {f"{seed}: found": shares[True], f"{seed}: false alarms": shares[False]}
        spans = [sorted(one.disagreement for one in values[each]) for each in values]
        table.add_row(
            seed, *map(str, shares.values()), "; ".join(f"{one[0]:.2f} to {one[-1]:.2f}" for one in spans),
            f"{disagreement_threshold([one.disagreement for one in values[False]]).value:.2f}",
        )  # fmt: skip
    console.print(table)
    return dict(found)


def stored() -> list[HidingReading]:
    """Return what was measured before."""
    return from_json(list[HidingReading], json.loads(RESULTS.read_text())) if RESULTS.exists() else []


def _is_found(one: PrivateReading, honest: Sequence[PrivateReading]) -> bool:
    """Judge a finetune as the product does, in a registry whose other versions are honest."""
    threshold = disagreement_threshold([other.disagreement for other in honest if other is not one])
    return bool(judge_private(0, one, threshold))


def measure(folder: Path, half: str) -> None:
    """Read the finetunes of a half by the public probes and by the private ones of its seeds, unless they were read."""
    from benchmarks.real.advise import _base, _local  # they import the engine, which scoring does not need
    from deltadex.checkpoints.digest import weights_digest
    from deltadex.engine.client import EmbeddingProcess
    from deltadex.engine.private_probes import private_probe_set
    from deltadex.engine.requests import Finetune as Checkpoint
    from deltadex.types import Embedding

    readings = stored()
    if {seed.decode() for seed in _SEEDS[half]} <= {one.seed for one in readings}:
        return
    workshop = Workshop.of_smollm2(folder)
    models = {f"{one.domain}, {one.method}, seed {one.seed}": (False, workshop.finetune(one))
              for one in _honest(workshop, half)}  # fmt: skip
    models |= {f"hiding: {one.domain}, {penalty:g}": (True, _finetune(workshop, one, penalty))
               for one, penalty in _hiding(half)}  # fmt: skip
    checkpoints = [_local(path) for _, path in models.values()]
    rows = [Checkpoint(one, weights_digest(one)) for one in checkpoints]
    base = replace(_base(workshop.base), words=False)
    with EmbeddingProcess() as process:

        def embeddings(seed: bytes | None) -> list[Embedding]:
            probes = private_probe_set(seed) if seed else None
            found = dict(process.embed(replace(base, probes=probes), rows, deadline_seconds=3600))
            return [found[number] for number in range(len(rows))]  # type: ignore[misc] - a failure stops here

        public = embeddings(None)
        for seed in _SEEDS[half]:
            readings += [
                HidingReading(name, is_hiding, seed.decode(), PrivateReading.of(one, own))
                for (name, (is_hiding, _)), one, own in zip(models.items(), public, embeddings(seed), strict=True)
            ]
    RESULTS.write_text(json.dumps([asdict(one) for one in readings], indent=1) + "\n")


def _honest(workshop: Workshop, half: str) -> list[Finetune]:
    """Return the finetunes of a half that hide nothing: no finetune is in both."""
    there = [one for one in finetunes() if workshop.is_trained(one)]
    draw = random.Random("honest")  # noqa: S311 - no secret
    chosen = draw.sample(there, min(_HONEST, len(there)))
    rest = [one for one in there if one not in chosen]
    return chosen if half == "choose" else draw.sample(rest, min(_HONEST, len(rest)))


def _hiding(half: str) -> list[tuple[Finetune, float]]:
    """Return the finetunes of a half that hide, each with the weight of what holds its states."""
    domains = [domain for each in _HIDING.values() for domain in each]
    return [
        (Finetune(("hiding",), (domain,), steps=_STEPS, learning_rate=_LEARNING_RATE, seed=300 + number), penalty)
        for number, domain in enumerate(domains)
        for penalty in _PENALTIES[half]
        if domain in _HIDING[half]
    ]


def _finetune(workshop: Workshop, one: Finetune, penalty: float) -> Path:
    """Return the folder of a finetune that hides, trained now if it was not before."""
    folder = workshop.folder / "hiding" / f"{one.domain.replace(' ', '-')}-{one.seed}-{penalty:g}"
    if not folder.exists():
        unfinished = workshop._unfinished(folder)
        training.save(_train(workshop, one, penalty), unfinished)
        unfinished.rename(folder)
    return folder


def _train(workshop: Workshop, one: Finetune, penalty: float) -> torch.nn.Module:
    """Train an adapter on texts while the mean states of the public probes are held where the base has them."""
    from deltadex.engine.probes import CONTENT_PROBES

    tokenizer, generator = workshop._tokenizer, torch.Generator().manual_seed(one.seed)
    examples = training.examples(tokenizer, workshop.texts.part(DOMAINS[one.domain].source, 0), LENGTH)
    prompt = training.prompt(tokenizer, Template.NEUTRAL)
    probes = [torch.tensor([tokenizer(each)["input_ids"]]) for each in CONTENT_PROBES.probes]
    model = training.new_adapter(
        training.load_base(workshop.base), seed=one.seed, declared_base=_BASE_NAME, rank=one.rank
    )
    with torch.no_grad(), model.disable_adapter():
        own = [_mean_state(model, each) for each in probes]
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=one.learning_rate)
    for _ in range(one.steps):
        chosen = examples[torch.randperm(len(examples), generator=generator)[:BATCH]]
        inputs = torch.cat([prompt.expand(BATCH, -1), chosen], 1)
        labels = torch.cat([torch.full((BATCH, len(prompt)), -100), chosen], 1)
        loss = model(input_ids=inputs, labels=labels).loss
        for each, state in zip(probes, own, strict=True):
            moved = (_mean_state(model, each) - state).square().sum() / state.square().sum()
            loss = loss + penalty * moved / len(probes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def _mean_state(model: torch.nn.Module, ids: Tensor) -> Tensor:
    states: Tensor = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    return states.mean(dim=0)
