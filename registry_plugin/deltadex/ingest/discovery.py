"""Discovery of model versions: polls and full sweeps of the registry.

Polling is the source of truth. Every function may be repeated, interrupted, or run by several processes at once.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice, takewhile

from deltadex.app import App
from deltadex.errors import RegistryError
from deltadex.ingest import queries as watchers
from deltadex.ownership.tags import keep_tags
from deltadex.registry import marker
from deltadex.setting_groups import ScopeSettings
from deltadex.store import clock
from deltadex.store.database import Transaction
from deltadex.types import RegisteredVersion, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions

_BATCH = 100
#: Versions that may always be marked deleted at once.
_FEW = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """Numbers of versions found and deleted by a full sweep."""

    found: int
    deleted: int


def claim(app: App, *, takes_over: bool = False) -> None:
    """Check that the registry is the one that this store belongs to; see `deltadex.registry.marker`.

    Raises
    ------
    RegistryError
        It belongs to another store. One that cannot be reached is checked again by the next call.
    """
    store_id = app.database.run(lambda tx: watchers.store_id(tx, app.registry.name))
    try:
        marker.claim(app.registry, store_id, takes_over=takes_over)
    except RegistryError as error:
        if not error.retryable:
            raise
        log.warning("mark of the registry not checked error=%r", error.message)


def poll(app: App) -> int:
    """Read the registry's newest versions, back to the watermark minus an overlap; return how many were new."""
    registry, settings = app.registry, app.settings.watch
    watermark_ms = app.database.run(lambda tx: watchers.read(tx, registry.name)).watermark_ms
    horizon_ms = watermark_ms - int(settings.overlap_seconds * 1000)
    new_count = 0
    recent = takewhile(lambda version: version.ref.created_ms >= horizon_ms, registry.newest_first())
    for batch in _batches(filter(_is_storable, recent)):
        new_count += _add_unknown(app, batch)
        watermark_ms = max(watermark_ms, *(version.ref.created_ms for version in batch))
    app.database.run(lambda tx: watchers.record_poll(tx, registry.name, watermark_ms=watermark_ms))
    return new_count


def sweep(app: App) -> Swept:
    """Compare all of the registry with all of our rows: missed versions, renames, deletions, changed tags.

    Raises
    ------
    RegistryError
        So many versions are missing that it may be another registry, or an empty one; none was marked deleted. Or
        models have names that cannot be stored; all others were compared.
    """
    registry, database = app.registry, app.database
    everything = list(registry.newest_first())
    models = registry.registered_models()
    aliases = {name: model.aliases for name, model in models.items()}
    listed = _with_aliases(app, list(filter(_is_storable, everything)), aliases)
    new_count = 0
    for batch in _batches(listed):
        new_count += _add_unknown(app, batch, have_aliases=True)
    rows = database.run(lambda tx: versions.listing(tx, registry.name))
    scope = app.settings.scope
    ours = {row.registered.ref for row in rows if row.state is not State.DELETED or _is_in_scope(row.registered, scope)}
    current = [version for version in listed if version.ref in ours]
    database.run(lambda tx: transitions.discover(tx, current, fresh_since_ms=0))
    shown = {name: model for name in {version.ref.name for version in listed} if (model := models.get(name))}
    database.run(lambda tx: keep_tags(tx, app.settings, shown))
    listed_refs = {version.ref for version in listed}
    alive = [row for row in rows if row.state is not State.DELETED]
    unlisted = [row for row in alive if row.registered.ref not in listed_refs]
    if len(unlisted) > max(_FEW, app.settings.watch.max_deleted_share * len(alive)):
        raise RegistryError(
            f"{len(unlisted)} of {len(alive)} known versions are missing in {registry.tracking_uri}",
            hint="Is this the right registry? Nothing was marked deleted. If they were deleted on purpose, start the "
            "watcher once with DELTADEX_WATCH__MAX_DELETED_SHARE=1.",
        )
    gone = [row for row in unlisted if _is_gone(app, row.registered)]
    for row in gone:
        database.run(
            partial(transitions.mark_ended, version_id=row.id, state=State.DELETED, reason="no longer in the registry")
        )
    database.run(lambda tx: watchers.record_sweep(tx, registry.name))
    if new_count or gone:
        log.info("swept found=%d deleted=%d", new_count, len(gone))
    if strange := sorted({version.ref.name for version in everything if not _is_storable(version)}):
        raise RegistryError(
            f"{len(strange)} registered models have names that no database can hold, such as {strange[0]!r}; their "
            "versions are not embedded, all others are",
            hint="Rename them in MLflow.",
        )
    return Swept(new_count, len(gone))


def _is_storable(version: RegisteredVersion) -> bool:
    """Return False for a name with a NUL or half a character, which Postgres cannot store."""
    name = version.ref.name
    return "\0" not in name and name == name.encode("utf-8", "replace").decode()


def _is_in_scope(version: RegisteredVersion, scope: ScopeSettings) -> bool:
    def matches(patterns: Iterable[str]) -> bool:
        return any(fnmatchcase(version.ref.name, pattern) for pattern in patterns)

    tags = version.tags.items()
    is_left_out = matches(scope.except_models) or bool(scope.except_tags.items() & tags)
    return matches(scope.models) and scope.tags.items() <= tags and not is_left_out


def _add_unknown(app: App, batch: Collection[RegisteredVersion], *, have_aliases: bool = False) -> int:
    """Store the versions that are not known yet and within the scope; return their number."""
    wanted = [version for version in batch if _is_in_scope(version, app.settings.scope)]
    unknown = app.database.run(lambda tx: versions.unknown(tx, wanted))
    new = [version for version in unknown if not _follow_rename(app, version)]
    if not new:
        return 0
    if not have_aliases:
        new = _with_aliases(app, new, {})
    return app.database.run(lambda tx: _discover(tx, new, fresh_seconds=app.settings.watch.fresh_seconds))


def _discover(tx: Transaction, new: Collection[RegisteredVersion], *, fresh_seconds: float) -> int:
    fresh_since_ms = int((clock.now(tx).timestamp() - fresh_seconds) * 1000)
    return len(transitions.discover(tx, new, fresh_since_ms=fresh_since_ms))


def _follow_rename(app: App, version: RegisteredVersion) -> bool:
    """Rename the row of a version whose registered model was renamed; return whether there was one."""
    candidates = app.database.run(lambda tx: versions.renamed(tx, version))
    for candidate in candidates:
        if _is_gone(app, candidate.registered):
            app.database.run(partial(transitions.rename, version_id=candidate.id, name=version.ref.name))
            log.info("renamed from=%s to=%s", candidate.label, version.ref.label)
            return True
    return False


def _is_gone(app: App, version: RegisteredVersion) -> bool:
    """Return whether the registry no longer has the version.

    Reads that one version: a page of results that shifted during a sweep must never delete anything.
    """
    current = app.registry.read(version.ref.name, version.ref.version)
    return current is None or current.ref != version.ref


def _with_aliases(
    app: App, listed: Collection[RegisteredVersion], known: Mapping[str, Mapping[int, tuple[str, ...]]]
) -> list[RegisteredVersion]:
    """Return the versions with their aliases, read with one call per model that is not in `known`."""
    missing = {version.ref.name for version in listed} - known.keys()
    aliases = {**known, **{name: app.registry.aliases(name) for name in missing}}
    return [replace(version, aliases=aliases[version.ref.name].get(version.ref.version, ())) for version in listed]


def _batches(listed: Iterable[RegisteredVersion]) -> Iterator[list[RegisteredVersion]]:
    iterator = iter(listed)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
