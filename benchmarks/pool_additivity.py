"""Additivity: finetunes of two domains compared with the sum of the finetunes of each (arXiv 2509.04442, table 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.pools import Finetune
from deltadex.vectors import cosine_similarity


@dataclass(frozen=True)
class Additivity:
    """Cosine similarities of models of two domains to models of single domains, one per seed.

    Attributes
    ----------
    trained
        `mixed`, or `in turn`: the second domain after the first.
    first, second, total
        Similarity to the finetune of the first domain, to that of the second, and to the sum of their deltas.
    alone
        Similarity of the two finetunes of single domains to each other.
    """

    domains: str
    trained: str
    first: list[float]
    second: list[float]
    total: list[float]
    alone: list[float]


def additivity(deltas: Mapping[Finetune, NDArray[np.float32]], mixtures: Sequence[Finetune]) -> Iterator[Additivity]:
    """Yield a row for each pair of domains and order of training; compared models have equal seeds."""
    for kind in dict.fromkeys((one.domains, one.in_turn) for one in mixtures):
        rows = [_similarities(deltas, one) for one in mixtures if (one.domains, one.in_turn) == kind]
        domains, in_turn = kind
        yield Additivity("+".join(domains), "in turn" if in_turn else "mixed", *map(list, zip(*rows, strict=True)))


def _similarities(deltas: Mapping[Finetune, NDArray[np.float32]], mixture: Finetune) -> tuple[float, ...]:
    one, other = (deltas[replace(mixture, domains=(domain,), in_turn=False)] for domain in mixture.domains)
    similarity = cosine_similarity(np.stack([deltas[mixture], one, other, one + other]))
    return tuple(float(similarity[pair]) for pair in ((0, 1), (0, 2), (0, 3), (1, 2)))


def show(rows: Sequence[Additivity], console: Console) -> None:
    """Print means and standard errors over the seeds."""
    table = Table("domains", "trained", "to the first", "to the second", "to the sum", "first to second")
    table.title = "additivity: mean over the seeds ± standard error"
    for row in rows:
        table.add_row(row.domains, row.trained, *map(_mean, (row.first, row.second, row.total, row.alone)))
    if rows:
        console.print(table)


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.2f}"
