"""Decisions as tags on the model versions in MLflow: a courtesy, tried again every round until it works."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from deltadex.domain import State, VersionRow
from deltadex.errors import RegistryError
from deltadex.mlflow_edge.write_back import tag_reviews
from deltadex.services import Services
from deltadex.store import review_changes
from deltadex.store import reviews as store
from deltadex.store.reviews import ReviewRow

#: Per round; a tag costs 70 ms (FACTS).
_AT_ONCE = 100

log = logging.getLogger(__name__)


def write_back_decisions(services: Services) -> int:
    """Tag the versions whose findings somebody decided since they were tagged last; return how many findings."""
    registry = services.registry.name
    pending = services.database.run(lambda tx: review_changes.untagged(tx, registry, limit=_AT_ONCE))
    rows = services.database.run(lambda tx: store.listing(tx, registry, ids=pending))
    failed = _tag(services, {version.id: version for row in rows for version in row.versions}.values())
    done = [row for row in rows if not failed & {version.id for version in row.versions}]
    for row in done:
        if row.last is not None:
            services.database.run(partial(review_changes.mark_tagged, review_id=row.id, decision_id=row.last.id))
    return len(done)


def tags_of(rows: Iterable[ReviewRow]) -> dict[str, str]:
    """Return what a version's tags say about its findings: one tag a kind, without the names of other models."""
    said = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        if row.last is not None:
            reason = f" ({row.last.reason})" if row.last.reason else ""
            said[f"deltadex.review.{row.finding.kind}"].append(f"finding {row.id}: {row.review.status}{reason}")
    return {key: "; ".join(texts)[:1000] for key, texts in said.items()}


def _tag(services: Services, versions: Iterable[VersionRow]) -> set[int]:
    """Tag these versions; return those for which it may work later."""
    failed = set()
    for version in versions:
        if version.state is State.DELETED:
            continue
        about = services.database.run(partial(store.listing, registry=services.registry.name, version_id=version.id))
        try:
            # Without the tags that we know of: those may have changed since they were read.
            tag_reviews(services.registry, replace(version.registered, tags={}), tags_of(about))
        except RegistryError as error:
            log.warning("not tagged version=%s error=%r", version.label, error.message)
            if error.retryable:
                failed.add(version.id)
    return failed
