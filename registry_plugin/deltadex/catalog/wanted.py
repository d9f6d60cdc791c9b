"""Conditions that people put on the list of registered models. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from deltadex.types import RiskTier, State

#: A word, or a text in quotes, each possibly after `key:`.
_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


@dataclass(frozen=True)
class Wanted:
    """Conditions on model versions; None and empty values allow anything.

    Attributes
    ----------
    terms
        Texts that must each be part of the name, or of a tag's key or value.
    tags
        All of these keys with these values.
    team
        Owner of the registered model, or value of one of the tags `deltadex.types.OWNER_TAGS`.
    tier
        Risk tier of the registered model.
    domain
        Value of the tag `deltadex.types.DOMAIN_TAG`, or the name of a cluster.
    states
        Any of these states; deleted versions are never listed.
    since, until
        Registered at this time or later, and before this time.
    """

    terms: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    team: str | None = None
    tier: RiskTier | None = None
    domain: str | None = None
    states: frozenset[State] = frozenset()
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Choices:
    """Teams and domains that occur in the versions that a viewer may see, sorted."""

    teams: tuple[str, ...]
    domains: tuple[str, ...]

    def unknown(self, wanted: Wanted) -> list[str]:
        """Return a sentence for each condition that no version can meet."""
        found = []
        if wanted.team is not None and wanted.team not in self.teams:
            found.append(f"No version has the team or owner {wanted.team!r}.")
        if wanted.domain is not None and wanted.domain not in self.domains:
            found.append(f"No version has the domain tag {wanted.domain!r}, and no cluster has this name.")
        if wanted.since and wanted.until and wanted.since >= wanted.until:
            found.append("The dates are in the wrong order: the first must be before the second.")
        return found


def parse_words(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the plain terms and the tags of a search; quotes keep words together.

    Examples
    --------
    >>> parse_words('sql team:"data platform"')
    (('sql',), {'team': 'data platform'})
    """
    terms, tags = list[str](), dict[str, str]()
    for term in _TERM.findall(text):
        key, separator, value = (part.replace('"', "") for part in term.partition(":"))
        if separator and key and value:
            tags[key] = value
        elif plain := key + separator + value:
            terms.append(plain)
    return tuple(terms), tags
