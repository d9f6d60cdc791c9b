"""Queries of what speaks against retiring a version, and against keeping it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from deltadex.access import Person
from deltadex.bases.declared import REGISTERED, place_of
from deltadex.duplicates.keeper import NEEDED_ELSEWHERE, Standing
from deltadex.findings.kinds import KINDS
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import BASE_TAG, STAGE_TAG, FindingKind, VersionRow


def standings(tx: Transaction, viewer: Person, settings: Settings, rows: Sequence[VersionRow]) -> dict[int, Standing]:
    """Return the standing of versions by id, in words for the viewer; the rows are not masked."""
    ids = [row.id for row in rows]
    needed = _copies(tx, viewer, ids)
    for version_id, models in _finetunes(tx, settings, rows).items():
        seen = [name for name in models if viewer.sees(name)]
        needed[version_id].append(f"is the base of {', '.join(seen)}" if len(seen) == len(models) else NEEDED_ELSEWHERE)
    high, outdated = _open_high(tx, ids), _outdated(tx, ids)
    return {
        each: Standing(tuple(dict.fromkeys(needed.get(each, ()))), tuple(high.get(each, ())), each not in outdated)
        for each in ids
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
    # Visible ones first: their places among the others would tell how hidden names are sorted.
    for original, name, version in sorted(rows, key=lambda row: not viewer.sees(row[1])):
        found[original].append(f"has the copy {name}/{version}" if viewer.sees(name) else NEEDED_ELSEWHERE)
    return found


def _finetunes(tx: Transaction, settings: Settings, rows: Sequence[VersionRow]) -> dict[int, list[str]]:
    """Return the models that have a version as their base, by the version's id."""
    by_place = {place: row.id for row in rows for place in _places(row)}
    found = tx.execute(
        """
        select coalesce(nullif(tags ->> %s, ''), declared_base) as base, array_agg(distinct name)
        from model_versions where registry = %s and state <> 'deleted' group by base
        """,
        [BASE_TAG, settings.registry],
    )
    models: defaultdict[int, list[str]] = defaultdict(list)
    for base, names in found:
        place = base and place_of(base, settings.bases)
        if place in by_place:
            models[by_place[place]] += names
    return {version_id: sorted(set(names)) for version_id, names in models.items()}


def _places(row: VersionRow) -> Iterator[str]:
    ref = row.registered.ref
    yield f"{REGISTERED}{ref.name}/{ref.version}"
    yield from (f"{REGISTERED}{ref.name}@{alias}" for alias in row.registered.aliases)


def _open_high(tx: Transaction, ids: Sequence[int]) -> dict[int, list[str]]:
    """Return the kinds of the findings of high severity about each version, if neither dismissed nor mended.

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
    """Return the versions whose model has a later one that is not archived."""
    found = tx.execute(
        """
        select id from model_versions this where id = any(%s) and exists (
            select from model_versions later
            where (later.registry, later.name) = (this.registry, this.name) and later.version > this.version
                and later.state <> 'deleted' and later.tags ->> %s is distinct from 'Archived')
        """,
        [ids, STAGE_TAG],
    )
    return {version_id for (version_id,) in found}
