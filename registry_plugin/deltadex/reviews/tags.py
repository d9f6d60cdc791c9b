"""Decisions as tags on the model versions in MLflow. Failed writes are retried every round."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from deltadex.app import App
from deltadex.errors import RegistryError
from deltadex.findings.kinds import KINDS
from deltadex.registry.tags import tag_reviews
from deltadex.reviews import follow
from deltadex.reviews import queries as reviews
from deltadex.reviews.groups import is_group
from deltadex.reviews.lifecycle import Status
from deltadex.reviews.queries import ReviewRow
from deltadex.types import State
from deltadex.versions.queries import by_ids

#: Limit per round; writing a tag takes 70 ms.
_FINDINGS_PER_ROUND = 100

log = logging.getLogger(__name__)


def write_back_decisions(app: App) -> int:
    """Tag the versions of findings with new decisions; return the number of findings."""
    registry = app.registry.name
    pending = app.database.run(lambda tx: follow.with_outdated_tags(tx, registry, limit=_FINDINGS_PER_ROUND))
    rows = app.database.run(lambda tx: reviews.listing(tx, registry, ids=pending))
    failed = _tag(app, rows)
    tagged = [row for row in rows if not failed & _concerned(row)]
    for row in tagged:
        if row.last is not None:
            app.database.run(partial(follow.mark_tagged, review_id=row.id, decision_id=row.last.id))
    return len(tagged)


def tags_of(rows: Iterable[ReviewRow], version_id: int) -> dict[str, str]:
    """Return a version's tags, one per kind of finding, without the names of other models.

    Of a group, only the versions to retire are tagged so, as long as that is asked for or decided.
    """
    texts_by_tag = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        if row.last is not None:
            said = _role(row, version_id) if _is_retiring(row) else row.last.reason
            reason = f" ({said})" if said else ""
            texts_by_tag[KINDS[row.finding.kind].tag].append(f"finding {row.id}: {row.review.status}{reason}")
    return {key: "; ".join(texts)[:1000] for key, texts in texts_by_tag.items()}


def _is_retiring(row: ReviewRow) -> bool:
    """Return True if the latest request or decision about a group, which may be void, is to retire versions."""
    return is_group(row) and row.is_retiring


def _role(row: ReviewRow, version_id: int) -> str:
    """Return the role of a version in a group's request or decision; empty if it is void, refused or carried out."""
    is_binding = row.review.status is Status.ACCEPTED or row.review.requested_by
    return str(row.plan.role_of(version_id) or "") if is_binding else ""


def _concerned(row: ReviewRow) -> set[int]:
    """Return the ids of a finding's versions, and of those that the latest decision about its group names."""
    named = row.ruling.plan.members if row.ruling is not None else ()
    return {*(version.id for version in row.versions), *(one.id for one in named)}


def _tag(app: App, rows: Sequence[ReviewRow]) -> set[int]:
    """Tag the versions of findings; return the ids of those to retry."""
    failed = set()
    for version in app.database.run(partial(by_ids, ids=sorted(set[int]().union(*map(_concerned, rows))))).values():
        if version.state is State.DELETED:
            continue
        about = app.database.run(partial(reviews.listing, registry=app.registry.name, version_id=version.id))
        known = {row.id for row in about}
        about += [row for row in rows if row.id not in known and version.id in _concerned(row)]
        try:
            # Known tags are dropped so that all tags are written: they may have changed since they were read.
            tag_reviews(app.registry, replace(version.registered, tags={}), tags_of(about, version.id))
        except RegistryError as error:
            log.warning("not tagged version=%s error=%r", version.label, error.message)
            if error.retryable:
                failed.add(version.id)
    return failed
