"""The hard questions, asked of similarities. Pure functions of similarities and what was trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import adjusted_mutual_info_score, average_precision_score, roc_auc_score

from benchmarks.real.pools import Finetune
from benchmarks.real.texts import DOMAINS, Role
from deltadex import vectors
from deltadex.clusters.partition import cluster
from deltadex.setting_groups import ThresholdSettings

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]
_RESAMPLES = 500


@dataclass(frozen=True)
class Answer:
    """A score with its 95 % interval: Wilson's for a share, by resampling domains for all else.

    Attributes
    ----------
    hits
        Whether each case was right, for a share; empty for all else.
    draws
        The score of each resample, for all else; the same resamples for every recipe.
    """

    value: float
    low: float
    high: float
    hits: tuple[bool, ...] = ()
    draws: tuple[float, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"  # no case was trained yet
        if self.hits:
            return f"{sum(self.hits)} of {len(self.hits)} [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Asked:
    """Models of some roles, and their `(n, n)` similarities."""

    models: tuple[Finetune, ...]
    similarity: Matrix

    @classmethod
    def of(cls, models: Sequence[Finetune], similarity: Matrix, roles: Sequence[Role]) -> Asked:
        """Keep the models whose domains all have one of the roles."""
        kept = [n for n, one in enumerate(models) if all(DOMAINS[name].role in roles for name in one.domains)]
        return cls(tuple(models[number] for number in kept), similarity[np.ix_(kept, kept)])

    @cached_property
    def domains(self) -> NDArray[np.str_]:
        """`(n,)`: domain of each model."""
        return np.array([one.domain for one in self.models])

    def pool(self, *names: str) -> Mask:
        """Return `(n,)`: whether each model is in one of these pools."""
        return np.array([bool({*names} & {*one.pools}) for one in self.models], dtype=bool)


def _silhouette(asked: Asked, chosen: Mask) -> Answer:
    labels = np.unique(asked.domains[chosen], return_inverse=True)[1]
    similarity = asked.similarity[np.ix_(chosen, chosen)]

    def mean(rows: NDArray[np.intp], numbers: NDArray[np.int64]) -> float:
        own = similarity[np.ix_(rows, rows)]
        return float(vectors.silhouettes(vectors.similarity_sums(own, numbers), numbers).mean())

    return _resampled(labels, mean)


def _resampled(labels: NDArray[np.int64], statistic: Callable[[NDArray[np.intp], NDArray[np.int64]], float]) -> Answer:
    """Score all rows, and rows of domains drawn with replacement; a domain drawn twice stays one domain."""
    draw = np.random.default_rng(0)
    count = labels.max() + 1
    values = []
    for _ in range(_RESAMPLES):
        drawn = np.unique(draw.integers(0, count, count))
        rows = np.flatnonzero(np.isin(labels, drawn))
        if len(drawn) > 1:
            values.append(statistic(rows, np.unique(labels[rows], return_inverse=True)[1]))
    low, high = np.quantile(values, (0.025, 0.975))
    return Answer(statistic(np.arange(len(labels)), labels), float(low), float(high), draws=tuple(values))


def _share(hits: Sequence[bool]) -> Answer:
    if not hits:
        return Answer(float("nan"), 0.0, 1.0)
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return Answer(sum(hits) / len(hits), float(interval.low), float(interval.high), tuple(map(bool, hits)))


def _nearest(asked: Asked, queries: Mask) -> Answer:
    """Ask for each query whether the nearest split of another part of the text than its own has its domain."""
    references = np.flatnonzero(asked.pool("splits"))
    hits = []
    for number in np.flatnonzero(queries):
        query = asked.models[number]
        possible = [each for each in references if each != number and not same_text(query, asked.models[each])]
        nearest = max(possible, key=lambda each: asked.similarity[number, each])
        hits.append(bool(asked.domains[nearest] == query.domain))
    return _share(hits)


def same_text(one: Finetune, other: Finetune) -> bool:
    """Return whether two finetunes were trained on the same part of the same text."""
    return (one.domains, one.kind, one.part) == (other.domains, other.kind, other.part)


def _same_kind(asked: Asked) -> Answer:
    """Pairs of one kind are the true ones, all others false; a whole beside its own part is neither and is left out."""
    chosen = np.flatnonzero(asked.pool("splits", "relatives"))
    kinds = np.array([f"{asked.models[each].domain} {asked.models[each].kind}" for each in chosen])
    domains = np.unique(asked.domains[chosen], return_inverse=True)[1]
    similarity = asked.similarity[np.ix_(chosen, chosen)]
    parts_of = np.array(
        [asked.models[each].kind and len(DOMAINS[asked.models[each].domain].relatives) > 1 for each in chosen]
    )
    unclear = np.equal.outer(domains, domains) & np.not_equal.outer(parts_of, parts_of)

    def precision(rows: NDArray[np.intp], _: NDArray[np.int64]) -> float:
        own = np.ix_(rows, rows)
        pairs = np.triu(~unclear[own], 1)
        return float(average_precision_score(np.equal.outer(kinds[rows], kinds[rows])[pairs], similarity[own][pairs]))

    return _resampled(domains, precision)


def _task_domain(asked: Asked) -> Answer:
    return _share([best == domain for domain, best, _ in _task_searches(asked)])


def _task_known(asked: Asked) -> Answer:
    """Tell tasks of a domain that the reference has from those of one it lacks, by the best similarity alone."""
    domains = np.array([domain for domain, *_ in _task_searches(asked)])
    known = np.array([similarity for *_, similarity in _task_searches(asked)])
    missing = np.array([similarity for *_, similarity in _task_searches(asked, without_own=True)])
    labels = np.unique(domains, return_inverse=True)[1]

    def area(rows: NDArray[np.intp], _: NDArray[np.int64]) -> float:
        truth = [1] * len(rows) + [0] * len(rows)
        return float(roc_auc_score(truth, np.concatenate([known[rows], missing[rows]])))

    return _resampled(labels, area)


def _task_searches(asked: Asked, *, without_own: bool = False) -> Iterator[tuple[str, str, float]]:
    """Yield the domain of each task, the domain of the nearest finetune, and its similarity."""
    references = np.flatnonzero(asked.pool("splits"))
    for number in np.flatnonzero(asked.pool("tasks")):
        domain = asked.models[number].domain
        possible = [each for each in references if not without_own or asked.domains[each] != domain]
        best = max(possible, key=lambda each: asked.similarity[number, each])
        yield domain, str(asked.domains[best]), float(asked.similarity[number, best])


def _reseeds(asked: Asked) -> Answer:
    """Tell reseeds of the same data from other splits of the domain, by similarity alone."""
    same, other = [], []
    for number in np.flatnonzero(asked.pool("reseeds")):
        for each in np.flatnonzero(asked.pool("splits", "reseeds")):
            if each != number and asked.domains[each] == asked.domains[number]:
                (same if same_text(asked.models[each], asked.models[number]) else other).append(
                    asked.similarity[number, each]
                )
    unknown = float("nan")
    value = float(roc_auc_score([1] * len(same) + [0] * len(other), [*same, *other])) if same else unknown
    return Answer(value, unknown, unknown)


QUESTIONS: Mapping[str, Callable[[Asked], Answer]] = {
    "silhouette, same settings": lambda asked: _silhouette(asked, asked.pool("splits")),
    "silhouette, other settings too": lambda asked: _silhouette(asked, asked.pool("splits", "settings")),
    "nearest, same settings": lambda asked: _nearest(asked, asked.pool("splits")),
    "nearest, other settings": lambda asked: _nearest(asked, asked.pool("settings")),
    "nearest, own template": lambda asked: _nearest(asked, asked.pool("own")),
    "nearest, the base's chat template": lambda asked: _nearest(asked, asked.pool("chat")),
    "nearest, other source": lambda asked: _nearest(asked, asked.pool("source")),
    "close relatives, average precision": _same_kind,
    "task of 20 examples: its domain": _task_domain,
    "task of 20 examples: known or missing, AUC": _task_known,
    "reseed or other split, AUC": _reseeds,
    "merged or full: its domain": lambda asked: _nearest(asked, asked.pool("methods")),
}


@dataclass(frozen=True)
class Comparison:
    """A recipe beside another on one question: difference, its p-value, and that after Holm's correction.

    For shares by McNemar's exact test, for all else by the resamples of the difference.
    """

    difference: float
    p: float
    adjusted: float


def comparisons(ours: Mapping[str, Answer], theirs: Mapping[str, Answer]) -> Mapping[str, Comparison]:
    """Compare two recipes on each question that both answer; corrected for the number of questions."""
    asked = [question for question, one in ours.items() if one.hits or one.draws]
    values = {question: _p_value(ours[question], theirs[question]) for question in asked}
    found, least = {}, 0.0
    for place, question in enumerate(sorted(asked, key=values.__getitem__)):
        least = max(least, min(1.0, (len(asked) - place) * values[question]))
        difference = ours[question].value - theirs[question].value
        found[question] = Comparison(difference, values[question], least)
    return {question: found[question] for question in asked}


def _p_value(one: Answer, other: Answer) -> float:
    if one.hits:
        better = sum(mine and not theirs for mine, theirs in zip(one.hits, other.hits, strict=True))
        worse = sum(theirs and not mine for mine, theirs in zip(one.hits, other.hits, strict=True))
        return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    differences = np.subtract(one.draws, other.draws)
    share = min((differences <= 0).mean(), (differences >= 0).mean())
    return min(1.0, 2 * max(float(share), 1 / len(differences)))


def rates(asked: Asked) -> Answer:
    """Return the silhouette of domains that were each trained at three learning rates (the paper's table has .38)."""
    tried = {one.domain for one in asked.models if "rates" in one.pools}
    chosen = [
        "rates" in one.pools or ("splits" in one.pools and one.part == 1 and one.domain in tried)
        for one in asked.models
    ]
    return _silhouette(asked, np.array(chosen)) if tried else Answer(*3 * [float("nan")])


#: Pools whose models are clustered together, each set beside the one before.
CLUSTERED = {
    "same settings": ("splits",),
    "other settings too": ("splits", "settings"),
    "own templates too": ("splits", "settings", "own"),
    "all of one domain": ("splits", "settings", "own", "chat", "source", "relatives", "tasks", "reseeds", "methods"),
}


@dataclass(frozen=True)
class Clustered:
    """Clusters that the product finds among models, beside their domains."""

    agreement: float
    clusters: int
    domains: int
    alone: int
    models: int

    def __str__(self) -> str:
        return (
            f"{self.agreement:.2f} ({self.clusters} clusters of {self.domains} domains, {self.alone} of "
            f"{self.models} models alone)"
        )


def clustered(models: Sequence[Finetune], deltas: Matrix, role: Role) -> Mapping[str, Clustered]:
    """Return the adjusted mutual information of clusters and domains in each set of `CLUSTERED`."""
    found = {}
    for name, pools in CLUSTERED.items():
        rows = [
            number
            for number, one in enumerate(models)
            if {*pools} & {*one.pools} and len(one.domains) == 1 and DOMAINS[one.domain].role is role
        ]
        labels = cluster(deltas[rows], min_similarity=ThresholdSettings().cluster_similarity).labels
        alone = labels < 0
        apart = np.where(alone, -1 - np.arange(len(labels)), labels)
        domains = [models[number].domain for number in rows]
        agreement = float(adjusted_mutual_info_score(domains, apart))
        found[name] = Clustered(agreement, len({*labels[~alone]}), len({*domains}), int(alone.sum()), len(rows))
    return found


@dataclass(frozen=True)
class Mixture:
    """A finetune on several domains: its similarity to the nearest of their own finetunes, and to the sum of these."""

    name: str
    in_turn: bool
    nearest: float
    total: float


def mixtures(deltas: Matrix, models: Sequence[Finetune]) -> list[Mixture]:
    """Return the mixes.

    Parameters
    ----------
    deltas
        `(n, d)` vectors that may be added: of a recipe of one block.
    """
    single = {one.domain: number for number, one in enumerate(models) if one.pools == ("splits",) and one.part == 2}
    found = []
    for number, one in enumerate(models):
        if one.pools == ("mixes",):
            parts = deltas[[single[domain] for domain in one.domains]]
            similarity = vectors.cosine_similarity(np.stack([deltas[number], parts.sum(0), *parts]))[0]
            found.append(Mixture(one.domain, one.in_turn, float(similarity[2:].max()), float(similarity[1])))
    return found


def mean_with_interval(values: Sequence[float]) -> Answer:
    """Return a mean with the 95 % interval of a bootstrap over the cases."""
    if not values:
        return Answer(*3 * [float("nan")])
    draw = np.random.default_rng(0)
    means = [draw.choice(values, len(values)).mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Answer(float(np.mean(values)), float(low), float(high))
