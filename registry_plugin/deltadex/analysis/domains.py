"""Cautious names for clusters: what most members say of themselves, or only a number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deltadex.domain import RegisteredVersion

DOMAIN_TAG = "domain"
#: A tag or word names a cluster where more than this share of the members carries it.
_MAJORITY = 0.5
_WORD = re.compile(r"[a-z]{3,}")
#: Words of model names that say how a model was made, not what it is for.
_TECHNICAL = frozenset(
    "adapter base chat copy demo dpo finetune finetuned full instruct large llm lora merged mini model near peft prod "
    "qlora sft small split staging team test tiny tuned version".split()
)


@dataclass(frozen=True)
class DomainName:
    """A name for a cluster, and where it came from."""

    text: str
    origin: str


def name_cluster(number: int, members: Sequence[RegisteredVersion]) -> DomainName:
    """Name a cluster after the `domain` tag of most members, else a word in most names, else by number.

    Parameters
    ----------
    number
        The cluster's label, from 0; shown from 1.
    members
        What the registry says about its models.
    """
    tagged, tags = _most_common([member.tags[DOMAIN_TAG]] for member in members if member.tags.get(DOMAIN_TAG))
    if tags > _MAJORITY * len(members):
        return DomainName(tagged, f"tag `{DOMAIN_TAG}` of {tags} of {len(members)} versions")
    word, names = _most_common(_words(member.ref.name) for member in members)
    if names > _MAJORITY * len(members):
        return DomainName(word, f"a word in the names of {names} of {len(members)} versions")
    return DomainName(f"cluster {number + 1}", "no tag or word that most members share")


def _words(name: str) -> set[str]:
    return set(_WORD.findall(name.lower())) - _TECHNICAL


def _most_common(groups: Iterable[Iterable[str]]) -> tuple[str, int]:
    counts = Counter(word for group in groups for word in group)
    return max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))
