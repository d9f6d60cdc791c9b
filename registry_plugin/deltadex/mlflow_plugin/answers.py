"""Answers of the pages in MLflow's server, read from the store with the rights of the person who asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

from mlflow.utils.workspace_context import get_request_workspace

from deltadex.access import Person, Role, read_directory
from deltadex.catalog.listing import ListedModel, listing
from deltadex.catalog.wanted import Wanted, parse_words
from deltadex.embeddings import reads as embeddings
from deltadex.errors import AccessDenied
from deltadex.findings.kinds import KINDS
from deltadex.mlflow_plugin.identities import Caller
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import UNDECIDED
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.titles import title
from deltadex.search import reads as search
from deltadex.settings import Settings, load_settings
from deltadex.store.database import Database, Transaction
from deltadex.types import VersionRow
from deltadex.versions import reads as versions


class StoreAnswers:
    """Implements `deltadex.mlflow_plugin.pages.Answers`.

    The caller has the same rights as in the dashboard. All methods raise AccessDenied if the settings list people and
    the caller is not among them, or list nobody and the caller is no admin of MLflow's app; and StoreError if Postgres
    is unavailable.
    """

    def version(self, name: str, version: int, caller: Caller | None) -> dict[str, Any] | None:
        """Return a version's state, neighbours and findings; None for an unknown version."""
        with _reading(caller) as (tx, viewer, settings):
            found = versions.find(tx, viewer, settings.registry, name, version)
            return _describe(tx, viewer, settings, found[0]) if found else None

    def models(self, search: str, page: int, caller: Caller | None) -> dict[str, Any]:
        """Return a page of the registered models, each with its newest version that meets the search."""
        with _reading(caller) as (tx, viewer, settings):
            found = listing(tx, viewer, settings.registry, Wanted(*parse_words(search)), number=page)
            undecided = Counter(
                each.id for row in reviews.listing(tx, viewer, settings, statuses=UNDECIDED) for each in row.versions
            )
        return {
            "summary": found.in_words,
            "page": found.number,
            "pages": found.pages,
            "models": [_listed(one, undecided[one.version.id]) for one in found.entries],
        }


@contextmanager
def _reading(caller: Caller | None) -> Iterator[tuple[Transaction, Person, Settings]]:
    settings = load_settings()
    if workspace := get_request_workspace():  # of the request, as MLflow's server has found it
        settings = settings.within(workspace)
    viewer = _viewer(settings, caller)
    with _database(settings.url_of("reader"), settings.database.role).transaction() as tx:
        yield tx, viewer, settings


def _viewer(settings: Settings, caller: Caller | None) -> Person:
    name, groups = (caller.name, caller.groups) if caller else ("anonymous", ())
    directory = read_directory(settings)
    if directory is not None:
        return directory.person(name, groups)
    if caller is None or caller.is_admin:
        return Person(name, Role.VIEWER)
    raise AccessDenied(
        f"{name} may not see these pages",
        hint="Deltadex doesn't know the rights of MLflow's app: without an access file (DELTADEX_ACCESS__FILE), only "
        "its admins see them.",
    )


def _describe(tx: Transaction, viewer: Person, settings: Settings, row: VersionRow) -> dict[str, Any]:
    stored = embeddings.of_version(tx, viewer, row.id)
    ref = row.registered.ref
    near = ((one.similarity, one.version.registered.ref) for one in search.neighbors(tx, viewer, row.id).neighbors)
    return {
        "name": ref.name,
        "version": ref.version,
        "state": row.state.value,
        "reason": row.reason,
        "strength": stored[0].strength if stored else None,
        "dashboard": settings.version_link(ref.name, ref.version),
        "neighbors": [
            {"name": other.name, "version": other.version, "similarity": similarity} for similarity, other in near
        ],
        "findings": [_finding(one, row) for one in reviews.listing(tx, viewer, settings, version_id=row.id)],
    }


def _finding(one: ReviewRow, about: VersionRow) -> dict[str, Any]:
    kind = one.finding.kind
    return {
        "id": one.id,
        "kind": kind.value,
        "title": title(one),
        "severity": one.severity.value,
        "status": one.review.status.value,
        "measure": one.finding.measure,
        "threshold": one.finding.threshold,
        "unit": KINDS[kind].unit,
        "other": next((each.label for each in one.versions if each.id != about.id), None),
    }


def _listed(one: ListedModel, open_findings: int) -> dict[str, Any]:
    version = one.version.registered
    ref = version.ref
    return {
        "name": ref.name,
        "version": ref.version,
        "versions": one.versions,
        "state": one.version.state.value,
        "open_findings": open_findings,
        "owner": version.owner or "",
        "domain": one.domain,
        "registered": datetime.fromtimestamp(ref.created_ms / 1000, UTC).isoformat(),
    }


@cache
def _database(url: str, role: str | None) -> Database:
    return Database(url, pool_size=2, role=role)
