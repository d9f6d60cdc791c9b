"""Names for clusters, each with where it came from: what members say of themselves, and what they are heard to say.

Tags, data set names and model names are declared, and may be wrong; promoted tokens are measured. Both are weighed the
same way, by class-based TF-IDF (BERTopic, arXiv 2203.05794, equation 2): how many of the members carry a term, against
how common it is everywhere.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from deltadex.domain import ModelVersionRef, RegisteredVersion, Words

DOMAIN_TAG = "domain"
#: A term names a cluster where more than this share of the members carries it.
_MAJORITY = 0.5
#: What one member alone carries is said of that member, not of the cluster.
_FEWEST_MEMBERS = 2
_TERMS_PER_ORIGIN = 6
_TOKENS_IN_A_NAME = 3
_LETTERS = re.compile(r"[^\W\d_]{2}")
_WORD = re.compile(r"[a-z]{3,}")
#: Words of model names that say how a model was made, not what it is for.
_TECHNICAL = frozenset(
    "adapter base chat copy demo dpo finetune finetuned full instruct large llm lora merged mini model near peft prod "
    "qlora sft small split staging team test tiny tuned version".split()
)
_DATA_SET_TAGS = frozenset(("data", "data_set", "dataset", "datasets", "train_dataset", "training_data"))
#: Tags of tools, not of people.
_TOOLS = ("mlflow.", "deltadex.")
_NO_WORDS: Mapping[ModelVersionRef, Words] = {}


class Origin(StrEnum):
    """Where a term comes from; all but the last are only declared."""

    TAG = "tag"
    DATA_SET = "data set name"
    NAME = "model name"
    TOKENS = "promoted token"


@dataclass(frozen=True)
class Term:
    """Something that is over-represented in a cluster.

    Attributes
    ----------
    text
        A word, or a tag as `key=value`.
    members
        How many versions of the cluster carry it.
    weight
        Class-based TF-IDF; comparable within one origin and clustering.
    """

    text: str
    origin: Origin
    members: int
    weight: float


@dataclass(frozen=True)
class DomainName:
    """A name for a cluster, where it came from, and all that is over-represented, by origin, the most telling first.

    A name that is only declared may be contradicted by the promoted tokens among `terms`.
    """

    text: str
    origin: str
    terms: tuple[Term, ...] = ()

    def of(self, origin: Origin) -> list[str]:
        """Return the terms of one origin."""
        return [term.text for term in self.terms if term.origin is origin]


def name_clusters(
    groups: Sequence[Sequence[RegisteredVersion]],
    *,
    rest: Sequence[RegisteredVersion] = (),
    words: Mapping[ModelVersionRef, Words] = _NO_WORDS,
) -> list[DomainName]:
    """Name each cluster after the `domain` tag of most members, else a word in most of their data sets' or own names,
    else the tokens that most of them promote, else by number.

    Parameters
    ----------
    groups
        What the registry says about the members of each cluster.
    rest
        Versions in no cluster, to compare with.
    words
        What members' embeddings say, where that is known.
    """
    by_origin = [_over_represented(origin, groups, rest, words) for origin in Origin]
    return [
        _name(number, len(group), [term for terms in by_origin for term in terms[number]])
        for number, group in enumerate(groups)
    ]


def _name(number: int, size: int, terms: Sequence[Term]) -> DomainName:
    common = [term for term in terms if term.members > _MAJORITY * size]
    for term in common:
        key, _, value = term.text.partition("=")
        if term.origin is Origin.TAG and key == DOMAIN_TAG:
            return DomainName(value, f"tag {DOMAIN_TAG} of {term.members} of {size} versions", tuple(terms))
    named = [term for term in common if term.origin in (Origin.DATA_SET, Origin.NAME)]
    if named:
        best = max(named, key=lambda term: (term.members, term.weight))
        origin = f"a word in the {best.origin}s of {best.members} of {size} versions"
        return DomainName(best.text, origin, tuple(terms))
    # Brackets are evidence of code, but no name.
    tokens = [term for term in common if term.origin is Origin.TOKENS and _LETTERS.search(term.text)][
        :_TOKENS_IN_A_NAME
    ]
    if tokens:
        fewest = min(term.members for term in tokens)
        origin = f"tokens that {fewest} or more of {size} versions promote; no tag or word that most share"
        return DomainName(" ".join(term.text for term in tokens), origin, tuple(terms))
    return DomainName(f"cluster {number + 1}", "no tag, word or token that most members share", tuple(terms))


def _over_represented(
    origin: Origin,
    groups: Sequence[Sequence[RegisteredVersion]],
    rest: Sequence[RegisteredVersion],
    words: Mapping[ModelVersionRef, Words],
) -> list[list[Term]]:
    """Return the terms of one origin that are over-represented in each group, the most telling first."""
    classes = [[term for member in group for term in _said(origin, member, words)] for group in (*groups, rest)]
    if not any(classes):
        return [[] for _ in groups]
    everywhere = Counter(chain.from_iterable(classes))
    said_per_class = everywhere.total() / sum(map(bool, classes))
    return [
        _ranked(
            Term(term, origin, count, count / len(group) * math.log1p(said_per_class / everywhere[term]))
            for term, count in Counter(said).items()
            if count >= _FEWEST_MEMBERS
        )
        for group, said in zip(groups, classes, strict=False)
    ]


def _said(origin: Origin, member: RegisteredVersion, words: Mapping[ModelVersionRef, Words]) -> set[str]:
    """Return the terms of one version; each counts once, however often it is said."""
    match origin:
        case Origin.TAG:
            return {f"{key}={value}" for key, value in _own_tags(member).items() if key not in _DATA_SET_TAGS}
        case Origin.DATA_SET:
            return _words(" ".join(value for key, value in _own_tags(member).items() if key in _DATA_SET_TAGS))
        case Origin.NAME:
            return _words(member.ref.name)
        case Origin.TOKENS:
            return {word.text.casefold() for word in words.get(member.ref, Words()).promoted}


def _own_tags(member: RegisteredVersion) -> dict[str, str]:
    return {key: value for key, value in member.tags.items() if value and not key.startswith(_TOOLS)}


def _words(name: str) -> set[str]:
    return set(_WORD.findall(name.lower())) - _TECHNICAL


def _ranked(terms: Iterable[Term]) -> list[Term]:
    return sorted(terms, key=lambda term: (-term.weight, term.text))[:_TERMS_PER_ORIGIN]
