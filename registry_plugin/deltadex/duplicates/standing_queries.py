"""Queries of what speaks against retiring a version, and against keeping it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from deltadex.access import Person
from deltadex.duplicates.keeper import Standing
from deltadex.findings.kinds import KINDS
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, VersionRow

_HIDDEN_COPY = "has a copy that you may not see"


def standings(
    tx: Transaction, viewer: Person, rows: Sequence[VersionRow], *, bases: Mapping[str, str]
) -> dict[int, Standing]:
    """Return the standing of versions by id, in words for the viewer.

    Parameters
    ----------
    rows
        Versions of one registry, not masked.
    bases
        Declared names of bases and where they are, from the settings.
    """
    ids = [row.id for row in rows]
    needed = _copies(tx, viewer, ids)
    for version_id, count in _finetunes(tx, rows, bases).items():
        needed[version_id].append(f"is the base of {count} finetune{'s' if count > 1 else ''}")
    high, outdated = _open_high(tx, ids), _outdated(tx, ids)
    return {
        each: Standing(tuple(needed.get(each, ())), tuple(high.get(each, ())), each not in outdated) for each in ids
    }


def _copies(tx: Transaction, viewer: Person, ids: Sequence[int]) -> defaultdict[int, list[str]]:
    """Return in words which versions were copied from others within the registry: a copy has no files of its own."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    rows = tx.execute(
        """
        select original.id, copy.name, copy.version from model_versions original
        join model_versions copy on copy.registry = original.registry and copy.state <> 'deleted'
            and copy.source = format('models:/%%s/%%s', original.name, original.version)
        where original.id = any(%s) order by copy.name, copy.version
        """,
        [ids],
    )
    for original, name, version in rows:
        found[original].append(f"has the copy {name}/{version}" if viewer.sees(name) else _HIDDEN_COPY)
    return found


def _finetunes(tx: Transaction, rows: Sequence[VersionRow], bases: Mapping[str, str]) -> dict[int, int]:
    """Return how many versions have a version as their base, where there are any."""
    owner: dict[str, int] = {}
    for row in rows:
        ref, aliases = row.registered.ref, row.registered.aliases
        places = {f"models:/{ref.name}/{ref.version}", *(f"models:/{ref.name}@{alias}" for alias in aliases)}
        owner |= dict.fromkeys([*places, *(name for name, place in bases.items() if place in places)], row.id)
    counts: defaultdict[int, int] = defaultdict(int)
    if rows:
        found = tx.execute(
            """
            select declared_base, count(*) from model_versions
            where registry = %s and state <> 'deleted' and declared_base = any(%s) group by declared_base
            """,
            [rows[0].registered.ref.registry, list(owner)],
        )
        for name, count in found:
            counts[owner[name]] += count
    return dict(counts)


def _open_high(tx: Transaction, ids: Sequence[int]) -> dict[int, list[str]]:
    """Return the kinds of the findings of high severity about each version that nobody has dismissed or mended.

    A finding about a pair is the newer version's.
    """
    found: defaultdict[int, list[str]] = defaultdict(list)
    rows = tx.execute(
        """
        select distinct model_version_id, kind from reviews
        where model_version_id = any(%s) and severity = 'high' and is_found and status not in ('dismissed', 'fixed')
        order by model_version_id, kind
        """,
        [ids],
    )
    for version_id, kind in rows:
        found[version_id].append(KINDS[FindingKind(kind)].words)
    return dict(found)


def _outdated(tx: Transaction, ids: Sequence[int]) -> set[int]:
    """Return the versions whose model has a later one."""
    found = tx.execute(
        """
        select id from model_versions this where id = any(%s) and exists (
            select from model_versions later
            where (later.registry, later.name) = (this.registry, this.name) and later.version > this.version
                and later.state <> 'deleted')
        """,
        [ids],
    )
    return {version_id for (version_id,) in found}
