"""Merges of finetunes: the prediction of their embeddings, what they lose on their parents' texts, and the warnings.

What is measured is committed in `merge.json`, so that `--quick` scores it in a second. Thresholds were chosen on the
train and select domains; the reuse domains were scored once, after that.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.real.scores import _share, mean_with_interval
from deltadex.merge.build import LEAST_AS_PREDICTED
from deltadex.merge.methods import MergeMethod
from deltadex.merge.prediction import Prediction, predict
from deltadex.merge.warnings import MergeRisk, warnings_of
from deltadex.vectors import cosine_similarity

RESULTS = Path(__file__).with_suffix(".json")
#: Least share of a parent's own gain over the base that a merge has to keep on the parent's text, not to have lost it.
KEPT_GAIN = 0.75


@dataclass(frozen=True, eq=False)
class Merged:
    """A merge that was measured.

    Attributes
    ----------
    similarity
        Cosine similarity of its embedding to the prediction.
    gains
        For each parent the share of its gain over the base, on text of its own domain that it was not trained on, that
        the merge has: 1 for as good as the parent, 0 for as bad as the base.
    worse
        For each parent the loss of the merge minus that of the parent, in nats per token.
    """

    method: MergeMethod
    labels: tuple[str, ...]
    prediction: Prediction
    conflict: float
    similarity: float
    gains: tuple[float, ...]
    worse: tuple[float, ...]

    @classmethod
    def of(cls, measured: Mapping[str, Any], parents: Mapping[str, str]) -> Merged:
        """Read what `merging.Measurer` wrote: a merge, and the embeddings of all parents."""
        method, count = MergeMethod(measured["method"]), len(measured["parents"])
        labels = tuple(f"{domain} {part}" for domain, part in measured["parents"])
        prediction = predict(
            [_vector(parents[label]) for label in labels], method.as_of_a_sum(method.default_weights(count))
        )
        at = [measured["texts"].index(domain) for domain, _ in measured["parents"]]
        base, merge = (np.array(measured[name])[at] for name in ("base", "merge"))
        own = np.array(measured["single"])
        return cls(
            method,
            labels,
            prediction,
            measured["conflict"],
            float(cosine_similarity([prediction.vector, _vector(measured["vector"])])[0, 1]),
            tuple(map(float, (base - merge) / (base - own))),
            tuple(map(float, merge - own)),
        )

    @property
    def is_alike(self) -> bool:
        """True if all parents have one domain."""
        return len({label.rpartition(" ")[0] for label in self.labels}) == 1

    @property
    def loses(self) -> bool:
        """True if it lost a parent's gain."""
        return min(self.gains) < KEPT_GAIN

    @property
    def risks(self) -> frozenset[MergeRisk]:
        """The warnings before it is built."""
        found = warnings_of(self.prediction, self.labels)
        return frozenset(one.risk for one in found)


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Print the tables of merges, and return their numbers."""
    if not quick:
        from benchmarks.real import merging  # it imports torch

        merging.write(folder, RESULTS)
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    answers: dict[str, object] = {}
    for name in ("choose", "test"):
        parents = found.get(f"parents of {name}", {})
        merges = [Merged.of(one, parents) for one in found.get(name, ()) if "refused" not in one]
        if merges:
            answers[name] = _show(merges, console, "train and select domains" if name == "choose" else "reuse domains")
    if found.get("tasks"):
        answers["tasks"] = _show_tasks(found["tasks"], console)
    return answers


def _show(merges: Sequence[Merged], console: Console, title: str) -> dict[str, object]:
    table = Table(
        "method", "merges", "cosine to the prediction", "lowest", "gain kept, mean", "lose", title=f"merges, {title}"
    )
    numbers: dict[str, object] = {}
    for method in dict.fromkeys(one.method for one in merges):
        own = [one for one in merges if one.method is method]
        similarity = mean_with_interval([one.similarity for one in own])
        kept = mean_with_interval([float(np.mean(one.gains)) for one in own])
        lose = _share([one.loses for one in own])
        lowest = min(one.similarity for one in own)
        table.add_row(method, str(len(own)), str(similarity), f"{lowest:.3f}", str(kept), str(lose))
        numbers[method] = {"cosine": similarity.value, "lowest": lowest, "kept": kept.value, "lose": lose.value}
    console.print(table)
    sums = [one for one in merges if one.method is MergeMethod.CAT]
    numbers["warnings"] = _show_warnings(sums, console, title)
    predicted = [kept for one in sums for kept in one.prediction.kept]
    gains = [gain for one in sums for gain in one.gains]
    order = spearmanr(predicted, gains)
    others = {
        "conflict of signs": [one.conflict for one in sums],
        "least similarity of two parents": [min(one.prediction.pairs) for one in sums],
        "least predicted share": [min(one.prediction.kept) for one in sums],
    }
    for name, values in others.items():
        rank = spearmanr(values, [min(one.gains) for one in sums])
        console.print(f"least gain of a sum and {name}: rank correlation {rank.statistic:.2f} (p = {rank.pvalue:.1g})")
        numbers[name] = float(rank.statistic)
    console.print(
        f"predicted share of the shift against measured share of the gain, {len(gains)} parents of sums: "
        f"rank correlation {order.statistic:.2f} (p = {order.pvalue:.1g})"
    )
    numbers["rank correlation"] = float(order.statistic)
    far = [one for one in sums if one.similarity < LEAST_AS_PREDICTED]
    console.print(f"sums below {LEAST_AS_PREDICTED} of their prediction: {_share([one in far for one in sums])}")
    return numbers


def _show_warnings(sums: Sequence[Merged], console: Console, title: str) -> dict[str, object]:
    """Print how often sums with and without each warning lost a parent's gain."""
    table = Table("warning", "warned that lose", "not warned that lose", "losing that were warned")
    table.title = f"warnings, {title}: a sum loses if it keeps less than {KEPT_GAIN:.0%} of a parent's gain"
    numbers: dict[str, object] = {}
    for risk in MergeRisk:
        warned = [one.loses for one in sums if risk in one.risks]
        others = [one.loses for one in sums if risk not in one.risks]
        found = [risk in one.risks for one in sums if one.loses]
        table.add_row(risk, *(_said(one) for one in (warned, others, found)))
        numbers[risk] = {"warned": len(warned), "right": sum(warned), "lose": len(found), "of": len(sums)}
    console.print(table)
    return numbers


def _vector(text: str) -> NDArray[np.float64]:
    return np.frombuffer(b64decode(text), "<f2").astype(float)


def _said(hits: Sequence[bool]) -> str:
    return str(_share(hits)) if hits else "none"


def _show_tasks(tasks: Sequence[Mapping[str, Any]], console: Console) -> list[dict[str, float]]:
    """Print the losses on text that neither the search nor any adapter saw."""
    table = Table("task", "base", "best single", "equal", "found", "fitted", title="weights found on 16 examples: nats")
    rows = []
    for one in tasks:
        best = min(
            one["singles"], key=lambda single: float(single["nats"])
        )  # chosen on the 16 examples, as a user would
        row = {name: float(one[name]["held_out_nats"]) for name in ("base", "equal", "found")}
        row["single"] = float(best["held_out_nats"])
        table.add_row(
            one["task"], *(f"{row[name]:.3f}" for name in ("base", "single", "equal", "found")),
            f"{float(one['found']['nats']):.3f}",
        )  # fmt: skip
        rows.append(row)
    console.print(table)
    for name in ("base", "single", "equal"):
        better = [row["found"] < row[name] for row in rows]
        gap = float(np.mean([row[name] - row["found"] for row in rows]))
        console.print(f"found weights better than {name}: {_said(better)}, by {gap:+.3f} nats in the mean")
    return rows
