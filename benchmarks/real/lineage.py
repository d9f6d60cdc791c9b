"""Lineage measured on SmolLM2: parents, their direction, merges and bases, and strangers taken for kin."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from benchmarks.real.lineage_specification import Descendant
from deltadex.lineage.base import measured_base
from deltadex.lineage.kinship import First
from deltadex.lineage.measure import LinkKind

if TYPE_CHECKING:
    from benchmarks.real.lineage_registry import KnownRegistry

ANSWERS = Path(__file__).with_name("lineage.json")
#: Right and asked, by question.
Counts = dict[str, tuple[int, int]]


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Measure the lineage of all finetunes, or load what was measured, and print how often it was right.

    Parameters
    ----------
    folder
        Folder of the workshop.
    quick
        Print the committed answers.
    """
    if not quick:
        found = {role: measure(folder, reuse=reuse) for role, reuse in (("select", False), ("reuse", True))}
        ANSWERS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    answers: dict[str, dict[str, tuple[int, int]]] = json.loads(ANSWERS.read_text(encoding="utf-8"))
    table = Table("question", *answers, title="lineage by the weights: right of asked")
    for question in dict.fromkeys(name for counts in answers.values() for name in counts):
        table.add_row(question, *(_share(*counts.get(question, (0, 0))) for counts in answers.values()))
    console.print(table)
    return {"lineage": answers}


def _share(hits: int, asked: int) -> str:
    if not asked:
        return "–"
    interval = binomtest(hits, asked).proportion_ci(method="wilson")
    digits = max(2, math.ceil(math.log10(asked)))
    return f"{hits:,} of {asked:,} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def measure(folder: Path, *, reuse: bool, train: bool = True) -> Counts:
    """Train or load the finetunes of known lineage, sketch all, and count right answers.

    The registry that is asked holds all finetunes of the pools, those of known lineage, and the merges. Without
    `train`, those that were not trained before are left out.
    """
    # They import torch, which scoring does not need.
    from benchmarks.real.lineage_registry import KnownRegistry

    known = KnownRegistry.of(folder, reuse=reuse, train=train)
    tally = Tally()
    for ask in (_ask_family, _ask_merges, _ask_strangers, _ask_bases):
        ask(known, tally)
    return tally.counts()


class Tally:
    """Right answers by question."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    def add(self, question: str, *, is_right: bool) -> None:
        """Count one answer."""
        self._asked[question] += 1
        self._right[question] += is_right

    def counts(self) -> Counts:
        """Return right and asked by question."""
        return {question: (self._right[question], number) for question, number in self._asked.items()}


def _ask_family(known: KnownRegistry, tally: Tally) -> None:
    for one in known.family:
        kind = "all weights" if one.is_full else "adapters"
        found, expected = known.parents(one), []
        if one.parent is not None:
            expected = [(LinkKind.TRAINED_ON, one.parent)]
            tally.add(f"trained on: its parent, and no other ({kind})", is_right=found == expected)
            kin = known.kinship(one.parent, one)
            if kin is not None and kin.first is not First.UNKNOWN:
                tally.add(f"trained on: direction, where claimed ({kind})", is_right=kin.first is First.ONE)
        else:
            question = "began with the seed of another" if one.twin else "trained from the base"
            tally.add(f"{question}: no parent ({kind})", is_right=found == expected)


def _ask_merges(known: KnownRegistry, tally: Tally) -> None:
    for merge in known.merges:
        expected = {(LinkKind.MERGED, parent) for parent in merge.parents}
        for method in (merge.method, "all"):
            tally.add(f"merged: its parents, and no other ({method})", is_right={*known.parents(merge)} == expected)


def _ask_strangers(known: KnownRegistry, tally: Tally) -> None:
    for one, other in known.strangers():
        is_right = known.kinship(one, other) is None
        tally.add("independent trainings: not kin", is_right=is_right)
        if one.domain == other.domain:
            tally.add("independent trainings on one domain: not kin", is_right=is_right)
    for one, other in combinations([one for one in known.family if one.is_full and one.parent is None], 2):
        is_right = known.kinship(one, other) is None
        tally.add("independent trainings of all weights: not kin", is_right=is_right)
        if one.made.domain == other.made.domain:
            tally.add("independent trainings of all weights on one domain: not kin", is_right=is_right)


def _ask_bases(known: KnownRegistry, tally: Tally) -> None:
    """Ask for the base of full models, where the base and each full model that others go on from are known bases."""
    fulls = [one for one in known.family if one.is_full]
    for one in fulls:
        others = [each for each in fulls if each.parent is None and each != one]
        right = one.parent.name if isinstance(one.parent, Descendant) else "base"
        for question, known_as_bases in {
            "beside finetunes of its domain": others,
            "beside finetunes of others": [each for each in others if each == one.parent or not _is_alike(each, one)],
        }.items():
            bases = {"base": known.base, **{each.name: known.as_base(each) for each in known_as_bases}}
            name = measured_base(known.sketches[one], bases).name
            tally.add(f"base of all weights: never a wrong one, {question}", is_right=name in (right, ""))
            tally.add(f"base of all weights: the right one, {question}", is_right=name == right)


def _is_alike(one: Descendant, other: Descendant) -> bool:
    """Return True if two are of one family or domain."""
    return one.made.domain == other.made.domain or (
        isinstance(other.parent, Descendant) and other.parent.made.domain == one.made.domain
    )
