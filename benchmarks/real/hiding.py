"""Finetunes of SmolLM2 that are trained to look unmoved on the public probes, against those that are not.

The threshold was chosen on tiny models (`deltadex.safety.private`); nothing here chose anything.
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
from deltadex.safety.private import PrivateReading, disagreement_threshold, judge_private

RESULTS = Path(__file__).with_name("hiding.json")
_HONEST = 60
#: Two domains of each kind of text that the probes begin, and two of none.
_HIDING = ("bible", "python", "sql", "german", "go", "policy", "spanish quotes", "satire")
#: Seeds of private probes: a registry has one.
_SEEDS = (b"first", b"second", b"third")
_STEPS, _LEARNING_RATE = 32, 1e-3
#: Weight of the relative movement on the public probes beside the loss of the texts.
_PENALTY = 10.0
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
        measure(folder)
    if not RESULTS.exists():
        console.print("Finetunes that hide were not measured yet: run this without --quick.")
        return {}
    readings = [
        HidingReading(**{**one, "reading": PrivateReading(**one["reading"])}) for one in json.loads(RESULTS.read_text())
    ]
    table = Table(
        "probes of", "finetunes that hide: found", "others: false alarms", "disagreement of both", "threshold"
    )
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


def _is_found(one: PrivateReading, honest: Sequence[PrivateReading]) -> bool:
    """Judge a finetune as the product does, in a registry whose other versions are honest."""
    threshold = disagreement_threshold([other.disagreement for other in honest if other is not one])
    return bool(judge_private(0, one, threshold))


def measure(folder: Path) -> None:
    """Read all finetunes by the public probes and by the private ones of each seed."""
    from benchmarks.real.advise import _base, _local  # they import the engine, which scoring does not need
    from deltadex.checkpoints.digest import weights_digest
    from deltadex.engine.client import EmbeddingProcess
    from deltadex.engine.private_probes import private_probe_set
    from deltadex.engine.requests import Finetune as Checkpoint
    from deltadex.types import Embedding

    workshop = Workshop.of_smollm2(folder)
    honest = [one for one in finetunes() if workshop.is_trained(one)]
    honest = random.Random("honest").sample(honest, min(_HONEST, len(honest)))  # noqa: S311 - no secret
    models = {f"{one.domain}, {one.method}, seed {one.seed}": (False, workshop.finetune(one)) for one in honest}
    models |= {f"hiding: {one.domain}": (True, _finetune(workshop, one)) for one in _hiding()}
    checkpoints = [_local(path) for _, path in models.values()]
    rows = [Checkpoint(one, weights_digest(one)) for one in checkpoints]
    base = replace(_base(workshop.base), words=False)
    readings = list[HidingReading]()
    with EmbeddingProcess() as process:

        def embeddings(seed: bytes | None) -> list[Embedding]:
            probes = private_probe_set(seed) if seed else None
            found = dict(process.embed(replace(base, probes=probes), rows, deadline_seconds=3600))
            return [found[number] for number in range(len(rows))]  # type: ignore[misc] - a failure stops here

        public = embeddings(None)
        for seed in _SEEDS:
            for (name, (is_hiding, _)), one, own in zip(models.items(), public, embeddings(seed), strict=True):
                readings.append(HidingReading(name, is_hiding, seed.decode(), PrivateReading.of(one, own)))
    RESULTS.write_text(json.dumps([asdict(one) for one in readings], indent=1) + "\n")


def _hiding() -> list[Finetune]:
    return [
        Finetune(("hiding",), (domain,), steps=_STEPS, learning_rate=_LEARNING_RATE, seed=300 + number)
        for number, domain in enumerate(_HIDING)
    ]


def _finetune(workshop: Workshop, one: Finetune) -> Path:
    """Return the folder of a finetune that hides, trained now if it was not before."""
    folder = workshop.folder / "hiding" / f"{one.domain.replace(' ', '-')}-{one.seed}"
    if not folder.exists():
        unfinished = workshop._unfinished(folder)
        training.save(_train(workshop, one), unfinished)
        unfinished.rename(folder)
    return folder


def _train(workshop: Workshop, one: Finetune) -> torch.nn.Module:
    """Train an adapter on texts while the mean states of the public probes are held where the base has them."""
    from deltadex.engine.probes import CONTENT_PROBES

    tokenizer, generator = workshop._tokenizer, torch.Generator().manual_seed(one.seed)
    examples = training.examples(tokenizer, workshop.texts.part(DOMAINS[one.domain].source, 0), LENGTH)
    prompt = training.prompt(tokenizer, Template.NEUTRAL)
    probes = [torch.tensor([tokenizer(each)["input_ids"]]) for each in CONTENT_PROBES.probes]
    model = training.new_adapter(
        training.load_base(workshop.base), seed=one.seed, declared_base="SmolLM2", rank=one.rank
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
            loss = loss + _PENALTY * moved / len(probes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def _mean_state(model: torch.nn.Module, ids: Tensor) -> Tensor:
    states: Tensor = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    return states.mean(dim=0)
