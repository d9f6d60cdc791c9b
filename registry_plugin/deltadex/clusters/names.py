"""Names of clusters, from their members' tags, data sets, model names and promoted tokens.

Tags, data set names and model names are declared, and may be wrong; promoted tokens are measured. All are weighted by
class-based TF-IDF (BERTopic, arXiv 2203.05794, equation 2): the share of members with a term, against its frequency in
all clusters.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from deltadex.clusters.division import FEWEST_DECLARED
from deltadex.types import DOMAIN_TAG, ModelVersionRef, RegisteredVersion, Words

#: A term can name a cluster if more than this share of the members has it.
_MAJORITY = 0.5
#: A term of a single member does not describe the cluster.
_FEWEST_MEMBERS = 2
_TERMS_PER_ORIGIN = 6
_TOKENS_IN_A_NAME = 3
#: Domains in the name of a cluster whose members declare several, and what stands between them.
_DOMAINS_IN_A_NAME = 3
DOMAIN_SEPARATOR = " / "
_SHORTEST_WORD = 3
#: First character of the scripts that put no spaces between words.
_EAST_ASIAN = "\u2e80"
_WORD = re.compile(r"[a-z]{3,}")
#: Words of model names that describe how a model was made, not its purpose.
_TECHNICAL = frozenset(
    "adapter base chat copy demo dpo finetune finetuned full instruct large llm lora merged mini model near peft prod "
    "qlora sft small split staging team test tiny tuned version".split()
)
_DATA_SET_TAGS = frozenset(("data", "data_set", "dataset", "datasets", "train_dataset", "training_data"))
#: Reason why a cluster has only a number.
NUMBERED = "no tag, word or token that most members share"
_NO_WORDS: Mapping[ModelVersionRef, Words] = {}


class LabelOrigin(StrEnum):
    """Origin of a term; all but the last are declared, not measured."""

    TAG = "tag"
    DATA_SET = "data set name"
    NAME = "model name"
    TOKENS = "promoted token"


@dataclass(frozen=True)
class Term:
    """A term that is over-represented in a cluster.

    Attributes
    ----------
    text
        A word, or a tag as `key=value`.
    members
        Number of the cluster's versions with the term.
    weight
        Class-based TF-IDF; comparable within one origin and clustering.
    """

    text: str
    origin: LabelOrigin
    members: int
    weight: float


@dataclass(frozen=True)
class DomainName:
    """A name for a cluster, its origin, and all over-represented terms by origin, highest weight first.

    The promoted tokens among `terms` may contradict a name that is only declared.
    """

    text: str
    origin: str
    terms: tuple[Term, ...] = ()

    def of(self, origin: LabelOrigin) -> list[str]:
        """Return the terms of one origin."""
        return [term.text for term in self.terms if term.origin is origin]


def name_clusters(
    groups: Sequence[Sequence[RegisteredVersion]],
    *,
    rest: Sequence[RegisteredVersion] = (),
    words: Mapping[ModelVersionRef, Words] = _NO_WORDS,
) -> list[DomainName]:
    """Return a name for each cluster.

    It is the `domain` tag of most members, else the few that together most members have, else a word in most data set
    or model names, else the tokens that most members promote if these are whole words, else a number.

    Parameters
    ----------
    groups
        Members of each cluster.
    rest
        Versions in no cluster, for comparison.
    words
        Promoted tokens of the members that have any.
    """
    by_origin = [_over_represented(origin, groups, rest, words) for origin in LabelOrigin]
    return [
        _name(number, group, [term for terms in by_origin for term in terms[number]])
        for number, group in enumerate(groups)
    ]


def terms_of(member: RegisteredVersion, words: Words | None) -> set[tuple[LabelOrigin, str]]:
    """Return all terms of one version, with their origins."""
    known = {member.ref: words} if words else _NO_WORDS
    return {(origin, text) for origin in LabelOrigin for text in _terms_of_origin(origin, member, known)}


def _name(number: int, group: Sequence[RegisteredVersion], terms: Sequence[Term]) -> DomainName:
    declared = _declared(group)
    if declared:
        return DomainName(*declared, tuple(terms))
    size = len(group)
    common = [term for term in terms if term.members > _MAJORITY * size]
    name_words = [term for term in common if term.origin in (LabelOrigin.DATA_SET, LabelOrigin.NAME)]
    if name_words:
        best = max(name_words, key=lambda term: (term.members, term.weight))
        origin = f"a word in the {best.origin}s of {best.members} of {size} versions"
        return DomainName(best.text, origin, tuple(terms))
    promoted = [term.text for term in terms if term.origin is LabelOrigin.TOKENS]
    tokens = [term for term in common if term.origin is LabelOrigin.TOKENS and _is_whole_word(term.text, promoted)][
        :_TOKENS_IN_A_NAME
    ]
    if tokens:
        fewest = min(term.members for term in tokens)
        origin = f"tokens that {fewest} or more of {size} versions promote; no tag or word that most share"
        return DomainName(" ".join(term.text for term in tokens), origin, tuple(terms))
    return DomainName(f"cluster {number + 1}", NUMBERED, tuple(terms))


def _declared(group: Sequence[RegisteredVersion]) -> tuple[str, str] | None:
    """Return the name by declared domains and its origin; None where they don't make one.

    It is the domain of most versions, or of most of those that declare one if these are enough; or else the domains
    of enough versions each, if most versions declare one of these.
    """
    counts = Counter(filter(None, (member.own_tags.get(DOMAIN_TAG) for member in group)))
    if not counts:
        return None
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    (first, most), size = ranked[0], len(group)
    is_clear = most > _MAJORITY * counts.total() and most >= FEWEST_DECLARED
    if (most > _MAJORITY * size and most >= _FEWEST_MEMBERS) or is_clear:
        return first, f"tag {DOMAIN_TAG} of {most} of {size} versions"
    several = [item for item in ranked if item[1] >= FEWEST_DECLARED][:_DOMAINS_IN_A_NAME]
    together = sum(count for _, count in several)
    if together <= _MAJORITY * size:
        return None
    return DOMAIN_SEPARATOR.join(domain for domain, _ in several), f"tag {DOMAIN_TAG} of {together} of {size} versions"


def _is_whole_word(token: str, others: Iterable[str]) -> bool:
    """Return False for punctuation, scraps, and the beginning or end of another token."""
    if not token.isalpha() or (len(token) < _SHORTEST_WORD and token[0] < _EAST_ASIAN):
        return False
    return not any(token != other and (other.startswith(token) or other.endswith(token)) for other in others)


def _over_represented(
    origin: LabelOrigin,
    groups: Sequence[Sequence[RegisteredVersion]],
    rest: Sequence[RegisteredVersion],
    words: Mapping[ModelVersionRef, Words],
) -> list[list[Term]]:
    """Return the terms of one origin that are over-represented in each group, highest weight first."""
    classes = [
        [term for member in group for term in _terms_of_origin(origin, member, words)] for group in (*groups, rest)
    ]
    if not any(classes):
        return [[] for _ in groups]
    everywhere = Counter(chain.from_iterable(classes))
    terms_per_class = everywhere.total() / sum(map(bool, classes))
    return [
        _ranked(
            Term(term, origin, count, count / len(group) * math.log1p(terms_per_class / everywhere[term]))
            for term, count in Counter(class_terms).items()
            if count >= _FEWEST_MEMBERS
        )
        for group, class_terms in zip(groups, classes, strict=False)
    ]


def _terms_of_origin(
    origin: LabelOrigin, member: RegisteredVersion, words: Mapping[ModelVersionRef, Words]
) -> set[str]:
    """Return the terms of one origin and version; each counts once."""
    match origin:
        case LabelOrigin.TAG:
            return {f"{key}={value}" for key, value in _own_tags(member).items() if key not in _DATA_SET_TAGS}
        case LabelOrigin.DATA_SET:
            return _words(" ".join(value for key, value in _own_tags(member).items() if key in _DATA_SET_TAGS))
        case LabelOrigin.NAME:
            return _words(member.ref.name)
        case LabelOrigin.TOKENS:
            return {word.text.casefold() for word in words.get(member.ref, Words()).promoted}


def _own_tags(member: RegisteredVersion) -> dict[str, str]:
    return {key: value for key, value in member.own_tags.items() if value}


def _words(name: str) -> set[str]:
    return set(_WORD.findall(name.lower())) - _TECHNICAL


def _ranked(terms: Iterable[Term]) -> list[Term]:
    return sorted(terms, key=lambda term: (-term.weight, term.text))[:_TERMS_PER_ORIGIN]
