"""Answers to searches by examples or mixtures, as values that say themselves in a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.clusters.queries import ClusterRow
from deltadex.embeddings.queries import RecipeRow
from deltadex.types import VersionRow
from deltadex.vectors import short_similarity

#: Measured by `python -m benchmarks.real` on twelve domains that chose nothing: see docs/find.md.
CAVEAT = (
    "Candidates to try: in our test among 46 domains, 50 of 60 searches by 20 examples found theirs, "
    "and 52 of 60 said so where the registry had none."
)


@dataclass(frozen=True)
class TaskModel:
    """A version that may be for the task.

    Attributes
    ----------
    similarity
        Cosine similarity of its delta to that of the examples.
    cluster
        Its domain; None if it is in none, or came after the latest run.
    words
        Tokens that it promotes most.
    """

    version: VersionRow
    similarity: float
    cluster: ClusterRow | None
    words: tuple[str, ...]


@dataclass(frozen=True)
class TaskDomain:
    """A domain, and the cosine similarity of the query to its mean direction."""

    cluster: ClusterRow
    similarity: float


@dataclass(frozen=True)
class Closeness:
    """Closeness of the examples to what the registry has.

    Attributes
    ----------
    reached, needed
        Score of the nearest domain, or similarity of the nearest version where there are few domains, and the least
        that counts as close.
    domain
        The nearest domain; None where versions decide.
    """

    reached: float
    needed: float
    domain: ClusterRow | None = None

    @property
    def is_met(self) -> bool:
        """True if the registry has models for the task."""
        return self.reached >= self.needed


@dataclass(frozen=True)
class Certainty:
    """Agreement of trainings on halves of the examples with that on all of them.

    Attributes
    ----------
    agreeing
        Number of halves whose nearest version has the same domain, or is of the same model if it has none.
    halves, planned
        Number of halves that are trained, and that will be.
    lowest, highest
        Cosine similarities of the halves to their nearest versions.
    """

    agreeing: int
    halves: int
    planned: int
    lowest: float
    highest: float

    @property
    def in_words(self) -> str:
        """The agreement in a sentence."""
        return (
            f"{self.agreeing} of {self.halves} trainings on halves of the examples find the same domain; "
            f"their closest reach {short_similarity(self.lowest)} to {short_similarity(self.highest)}."
        )


@dataclass(frozen=True)
class TaskModels:
    """Result of a search.

    Attributes
    ----------
    models
        Candidates, closest first, even if none is close.
    recipe
        Recipe of the comparison; None if the registry has no version under it.
    note
        Reason why there are no candidates; empty if there are some.
    domains
        Domains by their mean directions, closest first; none under conditions.
    closeness
        Closeness to the nearest domain or version; None for queries without such a threshold.
    certainty
        None as long as no half of the examples is trained.
    """

    models: tuple[TaskModel, ...]
    recipe: RecipeRow | None
    is_exact: bool = True
    note: str = ""
    domains: tuple[TaskDomain, ...] = ()
    closeness: Closeness | None = None
    certainty: Certainty | None = None

    @property
    def is_close(self) -> bool:
        """True if the first model is close enough to be offered."""
        if not self.models or self.closeness is None:
            return bool(self.models)
        domain = self.closeness.domain
        return self.closeness.is_met and (domain is None or _is_of(self.models[0], domain))

    @property
    def in_words(self) -> str:
        """The answer in a sentence."""
        if not self.models:
            return self.note
        first, closeness = self.models[0], self.closeness
        if closeness and not closeness.is_met:
            what = (
                f"domain is distinctly close: {closeness.domain.name}"
                if closeness.domain
                else "model is close: the closest"
            )
            return (
                f"No {what} reaches {short_similarity(closeness.reached)}, needed {short_similarity(closeness.needed)}."
            )
        if closeness and closeness.domain and not self.is_close:
            return f"The domain is {closeness.domain.name}, and no version of it that you may see meets the conditions."
        domain = f" of the domain {first.cluster.name}" if first.cluster else ""
        return f"The closest model is {first.version.label}{domain}: similarity {short_similarity(first.similarity)}."


def _is_of(model: TaskModel, domain: ClusterRow) -> bool:
    return model.cluster is not None and model.cluster.id == domain.id
