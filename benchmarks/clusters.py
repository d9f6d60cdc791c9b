"""Comparison of clustering methods: agreement with the truth, silhouette, and stability without a tenth of the vectors.

The vectors are synthetic (`benchmarks.synthetic_vectors`: families within domains), or those of FILE.npz with arrays
`vectors` (n, d) and `labels` (n,), the true domains. Each method is scored by

- the adjusted mutual information with the true domains, and with the true families if there are any. A method may find
  either of these two nested levels, so the better score counts;
- the mean silhouette (cosine) of its clusters, their number (n), and the share of outliers;
- its stability: the adjusted mutual information between its clusters of all vectors and of nine tenths of them,
  compared on the latter;
- CPU seconds of one run.

An outlier counts as a cluster of its own. HDBSCAN and k-means see 50 principal components. Methods that would need more
than 2 GB at a size are left out there; ours works on codes and a sample then, as `deltadex clusters` does.

    python -m benchmarks.clusters [--quick] [--vectors FILE.npz …] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Column, Table
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

from benchmarks.synthetic_vectors import SyntheticVectors
from deltadex.clusters.partition import ALONE, AT_ONCE, cluster
from deltadex.embeddings.codes import codes_of
from deltadex.setting_groups import ThresholdSettings
from deltadex.vectors import average_linkage, cosine_similarity, cut_tree, unit_vectors

Matrix = NDArray[np.floating]
Labels = NDArray[np.int64]
Method = Callable[[Matrix], Labels]

OURS = "average, silhouette cut"
_SEED = 0
_DIMENSION = 1_024
_MAX_ALIKE = 300
#: Maximum number of rows for the silhouette; more are sampled down to it.
_SCORED = 3_000
#: Agreement below which a ratio is meaningless.
_NO_AGREEMENT = 0.05


@dataclass(frozen=True)
class Pool:
    """Vectors with known domains; only synthetic ones have `families` within the domains."""

    name: str
    vectors: Matrix
    domains: Labels
    families: Labels | None = None


@dataclass(frozen=True)
class Score:
    """Scores of one method on one pool (see the module's docstring); None if not measured or undefined."""

    pool: str
    method: str
    domains: float
    families: float | None
    silhouette: float | None
    stability: float
    clusters: int
    outliers: float
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 300 vectors: under a minute")
    parser.add_argument("--vectors", type=Path, nargs="*", default=[], help="pools to use instead of synthetic ones")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    console = Console()
    pools = map(stored, options.vectors) if options.vectors else synthetic(quick=options.quick)
    scores: list[Score] = []
    for pool in pools:
        with console.status(pool.name):
            scores += [score(pool, name, method) for name, method in methods(len(pool.vectors)).items()]
    averaged = list(means(scores))
    show(averaged, console)
    if options.json:
        content = {"scores": [asdict(one) for one in averaged], "ratios": ratios(averaged)}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def synthetic(*, quick: bool) -> Iterator[Pool]:
    """Yield pools of 15 (five domains), 300, 3,000 and 10,000 vectors, with several seeds for the smaller sizes."""
    sizes = [(15, 5, 3, 10), (300, 10, 30, 3), (3_000, 20, 50, 1), (10_000, 20, 50, 1)]
    for count, domains, family_size, seeds in sizes[:2] if quick else sizes:
        for seed in range(seeds):
            stream = SyntheticVectors(count, _DIMENSION, seed, domains=domains, family_size=family_size)
            parts = zip(*stream.labelled_chunks(), strict=True)
            vectors, of_domain, of_family = (np.concatenate(part) for part in parts)
            yield Pool(f"{count:,} synthetic", vectors, of_domain, of_family)
            if count <= _MAX_ALIKE:
                yield Pool(f"{count:,} with much in common", _more_alike(vectors), of_domain, of_family)


def _more_alike(vectors: Matrix) -> Matrix:
    """Return vectors with similarities of about .54 between domains, as in some pools of trained finetunes."""
    shared = np.random.default_rng(_SEED).normal(size=vectors.shape[1])
    return unit_vectors(vectors) + 0.9 * unit_vectors(shared[None])


def stored(path: Path) -> Pool:
    """Read a pool from an `.npz` file."""
    with np.load(path, allow_pickle=False) as arrays:
        return Pool(path.stem, arrays["vectors"], np.unique(arrays["labels"], return_inverse=True)[1])


def methods(count: int) -> Mapping[str, Method]:
    """Return the methods to measure at this size, by name."""
    min_similarity = ThresholdSettings().cluster_similarity
    by_name: dict[str, Method] = {
        OURS: lambda rows: cluster(_as_stored(rows), min_similarity=min_similarity).labels,
        "the same, centred first": lambda rows: cluster(_centred(_as_stored(rows)), min_similarity=0.1).labels,
    }
    if count <= _SCORED:
        for cut in (0.65, 0.5):
            by_name[f"average, cut at {cut}"] = lambda rows, cut=cut: _fixed_cut(rows, cut)
    for size in (3, 5):
        by_name[f"HDBSCAN, least {size}"] = lambda rows, size=size: _hdbscan(rows, size)
    by_name["k-means, silhouette k"] = _k_means
    return by_name


def _as_stored(rows: Matrix) -> Matrix:
    return codes_of(rows) if len(rows) > AT_ONCE else rows


def _centred(rows: Matrix) -> Matrix:
    units = unit_vectors(rows)
    return units - units.mean(axis=0)


def _fixed_cut(rows: Matrix, cut: float) -> Labels:
    return cut_tree(average_linkage(cosine_similarity(rows)), 1 - cut)


def _components(rows: Matrix) -> Matrix:
    units = unit_vectors(rows)
    return np.asarray(PCA(min(50, *units.shape), random_state=_SEED).fit_transform(units))


def _hdbscan(rows: Matrix, min_size: int) -> Labels:
    return np.asarray(HDBSCAN(min_cluster_size=min_size, copy=True).fit_predict(_components(rows)))


def _k_means(rows: Matrix) -> Labels:
    components = _components(rows)
    sizes = np.unique(np.geomspace(2, max(3, min(len(rows) - 1, 3 * len(rows) ** 0.5)), 12).astype(int))
    candidates = [KMeans(k, n_init=3, random_state=_SEED).fit_predict(components) for k in sizes]
    return max(candidates, key=lambda labels: _silhouette(components, labels, "euclidean") or -1.0)


def score(pool: Pool, name: str, method: Method) -> Score:
    started = time.process_time()
    labels = _outliers_apart(method(pool.vectors))
    seconds = time.process_time() - started
    random = np.random.default_rng(_SEED)
    sample = np.sort(random.permutation(len(labels))[: round(0.9 * len(labels))])
    repeated = _outliers_apart(method(pool.vectors[sample]))
    sizes = np.bincount(labels)
    return Score(
        pool=pool.name,
        method=name,
        domains=float(adjusted_mutual_info_score(pool.domains, labels)),
        families=None if pool.families is None else float(adjusted_mutual_info_score(pool.families, labels)),
        silhouette=_silhouette(pool.vectors, labels, "cosine"),
        stability=float(adjusted_mutual_info_score(labels[sample], repeated)),
        clusters=int((sizes > 1).sum()),
        outliers=float((sizes == 1).sum() / len(labels)),
        seconds=seconds,
    )


def _outliers_apart(labels: ArrayLike) -> Labels:
    """Return labels from 0, with a separate label for every outlier."""
    separate = np.array(labels, dtype=np.int64)
    outliers = separate == ALONE
    separate[outliers] = separate.max(initial=0) + 1 + np.arange(outliers.sum())
    return np.unique(separate, return_inverse=True)[1]


def _silhouette(rows: Matrix, labels: Labels, metric: str) -> float | None:
    sample = np.random.default_rng(_SEED).permutation(len(rows))[:_SCORED]
    if not 1 < len(np.unique(labels[sample])) < len(sample):
        return None
    return float(silhouette_score(rows[sample], labels[sample], metric=metric))


def means(scores: Sequence[Score]) -> Iterator[Score]:
    """Yield the mean scores of each method over the pools of one name, ignoring undefined silhouettes."""
    for pool, method in dict.fromkeys((one.pool, one.method) for one in scores):
        these = [one for one in scores if (one.pool, one.method) == (pool, method)]

        def mean(field: str, these: Sequence[Score] = these) -> float | None:
            values = [value for one in these if (value := getattr(one, field)) is not None]
            return float(np.mean(values)) if values else None

        fields = ("domains", "families", "silhouette", "stability", "outliers", "seconds")
        yield Score(pool, method, clusters=round(mean("clusters") or 0), **{field: mean(field) for field in fields})


def ratios(scores: Sequence[Score]) -> dict[str, dict[str, float | None]]:
    """Return our agreement with the truth over each other method's, by pool; None for almost no agreement of theirs."""
    ours = {one.pool: _agreement(one) for one in scores if one.method == OURS}
    by_pool: dict[str, dict[str, float | None]] = {}
    for one in scores:
        if one.method != OURS:
            theirs = _agreement(one)
            by_pool.setdefault(one.pool, {})[one.method] = ours[one.pool] / theirs if theirs > _NO_AGREEMENT else None
    return by_pool


def _agreement(one: Score) -> float:
    return max(one.domains, one.families or 0.0)


def show(scores: Sequence[Score], console: Console) -> None:
    for pool in dict.fromkeys(one.pool for one in scores):
        columns = ("domain", "family", "silh.", "stab.", "n", "alone", "CPU s")
        table = Table(Column("method", no_wrap=True), *columns, title=pool)
        for one in scores:
            if one.pool == pool:
                numbers = (one.domains, one.families, one.silhouette, one.stability)
                text = ["–" if number is None else f"{number:.2f}" for number in numbers]
                table.add_row(one.method, *text, str(one.clusters), f"{one.outliers:.0%}", f"{one.seconds:.2f}")
        console.print(table)
    table = Table("vectors", "our agreement with the truth ÷ that of", "ratio")
    for pool, of_pool in ratios(scores).items():
        for method, ratio in of_pool.items():
            table.add_row(pool, method, "–, no agreement" if ratio is None else f"{ratio:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
