"""Owners hear at once of a fresh version that repeats another one: by a channel, and by a tag in MLflow.

Once per version and finding. The watcher calls this in each round; while a channel or MLflow is away, it tries again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from glob import escape
from typing import Protocol

from deltadex.access import Person, Role, read_directory
from deltadex.app import App
from deltadex.errors import AccessDenied, ChannelError, RegistryError
from deltadex.findings import queries as findings
from deltadex.notifications import queries as deliveries
from deltadex.notifications.channels import send
from deltadex.notifications.message import check_rules
from deltadex.notifications.queries import RepeatNotice
from deltadex.notifications.repeats import REPEATS, Repeat, message_of, note_of
from deltadex.registry.tags import tag_note
from deltadex.reviews import queries as reviews
from deltadex.reviews.lifecycle import Status
from deltadex.reviews.queries import ReviewRow
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, RegisteredVersion, State, VersionRow

#: Shown in place of a rule's name in the log of messages.
RULE = "owners"
#: Channel of all owners that have none of their own.
_EVERYBODY = "*"
#: Tag of a run with the user who started it, set by MLflow's client.
_USER_TAG = "mlflow.user"
#: Writing a tag takes 70 ms, and a round waits for it.
_NOTES_PER_ROUND = 50
#: A finding with another status needs no message, and no note in MLflow.
_STANDING = (Status.OPEN, Status.IN_REVIEW, Status.ACCEPTED)

log = logging.getLogger(__name__)


class OwnerOf(Protocol):
    """Names the owner of a version; None if there is none."""

    def __call__(self, version: RegisteredVersion, /) -> str | None: ...  # noqa: D102


def owner_or_author(app: App) -> OwnerOf:
    """Return a function that names the owner of a version by its tags, or else the user of its run."""

    def name(version: RegisteredVersion) -> str | None:
        if version.owner:
            return version.owner
        run = app.registry.run_of(version)
        return run.data.tags.get(_USER_TAG) if run is not None else None

    return name


def tell_owners(app: App, *, owner_of: OwnerOf | None = None) -> int:
    """Notice versions that repeat another, send messages to their owners, and tag them; return how many are told.

    Only one process may run this at a time; the watcher holds a lock.

    Parameters
    ----------
    owner_of
        Default: `owner_or_author`.
    """
    check_rules(app.settings.notify)
    registry = app.registry.name
    app.database.run(lambda tx: deliveries.notice_repeats(tx, registry, kinds=REPEATS))
    untold = app.database.run(lambda tx: deliveries.untold(tx, registry))
    told = _tell(app, untold, owner_of or owner_or_author(app)) if untold else 0
    _write_notes(app)
    return told


def viewer_of(settings: Settings, owner: str, version: RegisteredVersion) -> Person:
    """Return what a message about a version may show.

    With a channel that is theirs alone, that is what its owner may see, by their entry in the access file or that of a
    group of this name. An owner whom the file does not list sees the version's own model alone. So do all who read a
    shared channel: the owner is free text, and naming a colleague must not show there what that colleague may see.
    """
    directory = read_directory(settings)
    if directory is None:
        return Person(owner, Role.VIEWER)
    channels = [*settings.notify.owners.values()]
    try:
        if owner != _EVERYBODY and channels.count(settings.notify.owners.get(owner, "")) == 1:
            return directory.person(owner, [owner])
    except AccessDenied:
        pass
    return Person(owner, Role.VIEWER, models=(escape(version.ref.name),))


def _tell(app: App, untold: Sequence[RepeatNotice], owner_of: OwnerOf) -> int:
    found = app.database.run(lambda tx: _repeats(tx, app.settings, untold))
    by_owner: dict[tuple[str, str], list[Repeat]] = defaultdict(list)
    channels = app.settings.notify.owners
    told = {notice.version_id for notice in untold} - set(found)
    failed: set[int] = set()
    for repeats in found.values():
        version = repeats[0].version
        try:
            owner = (owner_of(version.registered) or "") if channels else ""
        except RegistryError as error:
            log.warning("owner not read version=%s error=%r", version.label, error.message)
            failed.add(version.id)
            continue
        by_owner[channels.get(owner) or channels.get(_EVERYBODY, ""), owner].append(repeats[0])
    count = 0
    for (channel, owner), repeats in by_owner.items():
        ids = {one.version.id for one in repeats}
        if not channel or _send(app, channel, owner, repeats):
            told |= ids
            count += len(repeats) if channel else 0
        else:
            failed |= ids
    app.database.run(partial(deliveries.record_told, told=sorted(told), failed=sorted(failed)))
    return count


def _send(app: App, channel: str, owner: str, repeats: Sequence[Repeat]) -> bool:
    lines = [(one, viewer_of(app.settings, owner, one.version.registered)) for one in repeats]
    error = ""
    try:
        send(channel, app.settings.notify.channels[channel], message_of(lines))
    except ChannelError as failure:
        log.warning("not sent to an owner channel=%s versions=%d", channel, len(repeats))
        error = failure.message
    record = partial(
        deliveries.record, registry=app.registry.name, rule=RULE, channel=channel, events=len(repeats), error=error
    )
    app.database.run(record)
    return not error


def _repeats(tx: Transaction, settings: Settings, notices: Collection[RepeatNotice]) -> dict[int, list[Repeat]]:
    """Return what still stands of some notices by version, equal weights first."""
    rows = {row.id: row for row in reviews.listing(tx, settings.registry, ids={one.review_id for one in notices})}
    found: dict[int, list[Repeat]] = defaultdict(list)
    for one in notices:
        row = rows[one.review_id]
        version = next((member for member in row.members if member.id == one.version_id), None)
        if version is not None and _stands(row):
            found[version.id].append(_repeat(tx, settings, row, version))
    return {each: sorted(repeats, key=lambda one: REPEATS.index(one.kind)) for each, repeats in found.items()}


def _stands(row: ReviewRow) -> bool:
    return row.is_found and row.review.status in _STANDING and len(row.members) > 1


def _repeat(tx: Transaction, settings: Settings, row: ReviewRow, version: VersionRow) -> Repeat:
    members = {one.id: one for one in row.members if one.id != version.id}
    pairs = [
        (pair.finding.measure, other)
        for pair in findings.listing(tx, settings.registry, kinds=[row.finding.kind], version_id=version.id)
        for other in (pair.version, pair.other)
        if other is not None and other.id in members
    ]
    oldest = next(iter(members.values()))
    similarity, other = max(pairs, key=lambda pair: pair[0] or 0.0, default=(row.finding.measure, oldest))
    is_equal = row.finding.kind is FindingKind.EXACT_DUPLICATE
    return Repeat(
        row.id, row.finding.kind, version, other, None if is_equal else similarity,
        more=len(members) - 1, link=settings.finding_link(row.id),
    )  # fmt: skip


def _write_notes(app: App) -> None:
    """Write the notes that are new, and remove those whose findings are gone or settled."""
    registry = app.registry.name
    notices = app.database.run(lambda tx: deliveries.with_outdated_notes(tx, registry, standing=_STANDING))
    if not notices:
        return
    standing = app.database.run(lambda tx: _repeats(tx, app.settings, notices))
    versions: Mapping[int, VersionRow] = {one.version_id: one.version for one in notices}
    for version in [*versions.values()][:_NOTES_PER_ROUND]:
        text = _note(app.settings, version, standing.get(version.id, []))
        is_written = not text and not any(one.note for one in notices if one.version_id == version.id)
        if is_written or version.state is State.DELETED or _tag(app, version, text):
            record = partial(deliveries.record_note, version_id=version.id, note=text, standing=_STANDING)
            app.database.run(record)


def _note(settings: Settings, version: VersionRow, repeats: Sequence[Repeat]) -> str:
    # Those who may read this version in MLflow read its tags. With an access file, who that is is not known here.
    directory = read_directory(settings)
    models = ("*",) if directory is None else (escape(version.registered.ref.name),)
    return note_of(repeats, Person("a reader of MLflow", Role.VIEWER, models=models))


def _tag(app: App, version: VersionRow, text: str) -> bool:
    try:
        # Known tags are dropped: they may have changed since they were read.
        tag_note(app.registry, replace(version.registered, tags={}), text)
    except RegistryError as error:
        log.warning("not noted version=%s error=%r", version.label, error.message)
        return not error.retryable
    return True
