"""Finetunes of two bases side by side, and how often the nearest one of another base is of the same domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.real.across_pools import (
    INDEPENDENT,
    KEPT,
    OURS,
    SIBLING,
    Read,
    anchor_texts,
    finetunes_of,
    load,
    write,
)
from benchmarks.real.across_scores import AcrossScore, score
from benchmarks.real.across_ways import ACROSS_CHOICE, WAYS, Way, meaning_without
from benchmarks.real.texts import Role

_FILE = Path(__file__).with_name("across.npz")
#: Fields of the texts of `Delta Meaning` that are those of a domain under test, in the same or a close form.
_TESTED_FIELDS = frozenset(
    {"Ruby", "Lisp", "MATLAB", "Erlang", "Rust", "Pascal", "dictionary", "abbreviations", "Polish", "Czech"}
    | {"German software", "German", "shell", "manual page", "quotation"}
)
#: Share of the held-out texts that a base's loss is measured on: one in so many.
_EVERY = 8
_WITHOUT = "Delta Meaning, without the tested fields"


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Score the comparison on the domains of `REUSE`, and return it.

    Parameters
    ----------
    quick
        Score the committed readings; otherwise all are read again, from finetunes that are trained where needed.
    """
    if not quick:
        measure(folder)
    read = load(_FILE)
    ways: Mapping[str, Way] = {**WAYS, _WITHOUT: meaning_without(_TESTED_FIELDS)}
    found: dict[str, object] = {"chosen on 18 of SELECT": dict(ACROSS_CHOICE)}
    for other in (SIBLING, INDEPENDENT):
        if other not in read:
            console.print(f"[dim]across bases, {other}: not measured[/]")
            continue
        scores = {name: score(way, read[OURS], read[other], Role.REUSE) for name, way in ways.items()}
        console.print(_table(other, scores))
        found[other] = {name: asdict(one) for name, one in scores.items()}
    losses = {base: one.bits_per_byte for base, one in read.items()}
    console.print("bits per byte: " + ", ".join(f"{base} {loss:.2f}" for base, loss in losses.items()))
    return {**found, "bits per byte": losses}


def measure(folder: Path) -> None:
    """Read the finetunes of all bases and write what is committed."""
    from benchmarks.real import second_base, sibling
    from benchmarks.real.across_readings import AcrossReader, shared_tokens
    from benchmarks.real.training import Workshop

    ours = Workshop.of_smollm2(folder)
    shops = {OURS: ours, SIBLING: sibling.workshop(ours), INDEPENDENT: second_base.workshop(folder)}
    shared = shared_tokens([shops[OURS].base, shops[INDEPENDENT].base])
    anchors, read = anchor_texts(ours.texts), {}
    for base, shop in shops.items():
        reader, models = AcrossReader(shop, shared), finetunes_of(base, Role.REUSE)
        each = [reader.read(one) for one in models]
        readings = {name: np.stack([getattr(one, name) for one in each]) for name in KEPT}
        loss = second_base.bits_per_byte(shop.base, ours.texts, every=_EVERY)
        read[base] = Read(models, readings, reader.states(anchors), loss)
    write(_FILE, read)


def _table(other: str, scores: Mapping[str, AcrossScore]) -> Table:
    domains = next(iter(scores.values())).domains
    table = Table(
        "way", f"of SmolLM2, nearest of {other}", "reverse", "both", "among the five nearest", "silhouette",
        title=f"Across bases: SmolLM2 and the {other} one. Chance finds at most 1 of {domains}.",
    )  # fmt: skip
    for name, one in scores.items():
        table.add_row(name, str(one.there), str(one.back), str(one.both), str(one.shortlist), f"{one.silhouette:.2f}")
    return table
