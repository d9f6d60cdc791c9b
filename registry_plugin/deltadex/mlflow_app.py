"""Deltadex inside MLflow's server: `mlflow server --app-name deltadex`, or `deltadex-basic-auth` with its logins."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from deltadex import reviews
from deltadex.governance.access import Person, Role
from deltadex.people import read_directory
from deltadex.settings import Settings, load_settings
from deltadex.store import embeddings, search, versions
from deltadex.store.database import Database, Transaction


def create_app() -> Any:
    """Return MLflow's app with our pages, for anybody who reaches the server."""
    from mlflow.server import app
    from mlflow.server.fastapi_app import create_fastapi_app

    from deltadex.mlflow_edge.app import add_rules

    add_rules(app, about)
    # As MLflow's own basic-auth does: uvicorn serves a FastAPI app around the Flask one.
    return create_fastapi_app(app) if os.environ.get("_MLFLOW_SGI_NAME") == "uvicorn" else app


def create_app_with_basic_auth() -> Any:
    """Return the same behind MLflow's basic-auth: nobody without a login, and of those without admin rights only whom
    `MLFLOW_BASIC_AUTH_FAIL_CLOSED=false` lets through.
    """
    from mlflow.server import app
    from mlflow.server.auth import create_app as with_basic_auth

    from deltadex.mlflow_edge.app import add_rules

    add_rules(app, about)
    return with_basic_auth(app)


def about(name: str, version: int, user: str | None) -> dict[str, Any] | None:
    """Return what is known about a version, as JSON takes it; None where it is not known.

    Parameters
    ----------
    user
        Who MLflow says asks; they see what they may see in the dashboard.

    Raises
    ------
    AccessDenied
        People are listed, and this is none of them.
    StoreError
        Postgres is away.
    """
    settings = load_settings()
    directory = read_directory(settings)
    person = directory.person(user or "anonymous") if directory else Person(user or "anonymous", Role.VIEWER)
    if not person.sees(name):
        return None
    with _database(settings.database_url, settings.database.role).transaction() as tx:
        found = versions.find(tx, settings.registry, name, version)
        return _described(tx, settings, person, found[0].id) if found else None


def _described(tx: Transaction, settings: Settings, person: Person, version_id: int) -> dict[str, Any]:
    row = versions.get(tx, version_id)
    stored = embeddings.of_version(tx, version_id)
    ref = row.registered.ref
    near = ((one.similarity, person.view(one.version).registered.ref) for one in search.neighbors(tx, row.id).neighbors)
    found = reviews.listing(tx, person, settings, version_id=version_id)
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
                "other": next((each.label for each in one.versions if each.id != version_id), None),
            }
            for one in found
        ],
    }


@cache
def _database(url: str, role: str | None) -> Database:
    return Database(url, pool_size=2, role=role)
