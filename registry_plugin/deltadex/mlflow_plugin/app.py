"""MLflow server apps with Deltadex's pages: `mlflow server --app-name deltadex` or `--app-name deltadex-basic-auth`."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from deltadex.access import Person, Role, read_directory
from deltadex.embeddings import reads as embeddings
from deltadex.reviews import actions as reviews
from deltadex.search import reads as search
from deltadex.settings import Settings, load_settings
from deltadex.store.database import Database, Transaction
from deltadex.types import VersionRow
from deltadex.versions import reads as versions


def create_app() -> Any:
    """Return MLflow's app with our pages, without authentication."""
    from mlflow.server import app
    from mlflow.server.fastapi_app import create_fastapi_app

    from deltadex.mlflow_plugin.pages import add_rules

    add_rules(app, about)
    # As in MLflow's basic-auth: uvicorn serves a FastAPI app around the Flask one.
    return create_fastapi_app(app) if os.environ.get("_MLFLOW_SGI_NAME") == "uvicorn" else app


def create_app_with_basic_auth() -> Any:
    """Return MLflow's app with our pages behind its basic-auth.

    Users need a login. Those without admin rights see our pages only with `MLFLOW_BASIC_AUTH_FAIL_CLOSED=false`.
    """
    from mlflow.server import app
    from mlflow.server.auth import create_app as with_basic_auth

    from deltadex.mlflow_plugin.pages import add_rules

    add_rules(app, about)
    return with_basic_auth(app)


def about(name: str, version: int, user: str | None) -> dict[str, Any] | None:
    """Return a version's state, neighbours and findings as JSON values; None for an unknown version.

    Parameters
    ----------
    user
        The user that MLflow authenticated, with the same rights as in the dashboard; None without authentication.

    Raises
    ------
    AccessDenied
        The settings list people, and the user is not among them.
    StoreError
        Postgres is unavailable.
    """
    settings = load_settings()
    directory = read_directory(settings)
    viewer = directory.person(user or "anonymous") if directory else Person(user or "anonymous", Role.VIEWER)
    with _database(settings.url_of("reader"), settings.database.role).transaction() as tx:
        found = versions.find(tx, viewer, settings.registry, name, version)
        return _describe(tx, viewer, settings, found[0]) if found else None


def _describe(tx: Transaction, viewer: Person, settings: Settings, row: VersionRow) -> dict[str, Any]:
    stored = embeddings.of_version(tx, viewer, row.id)
    ref = row.registered.ref
    near = ((one.similarity, one.version.registered.ref) for one in search.neighbors(tx, viewer, row.id).neighbors)
    found = reviews.listing(tx, viewer, settings, version_id=row.id)
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
        "findings": [
            {
                "id": one.id,
                "kind": one.finding.kind.value,
                "severity": one.severity.value,
                "status": one.review.status.value,
                "measure": one.finding.measure,
                "threshold": one.finding.threshold,
                "other": next((each.label for each in one.versions if each.id != row.id), None),
            }
            for one in found
        ],
    }


@cache
def _database(url: str, role: str | None) -> Database:
    return Database(url, pool_size=2, role=role)
