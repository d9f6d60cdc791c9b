"""Other apps of MLflow's server: found by name, loaded as MLflow does, and served with our pages inside."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import FunctionType, MappingProxyType
from typing import Any

from flask import Flask
from mlflow.server import app as mlflow_app
from mlflow.server.handlers import _add_static_prefix
from starlette.applications import Starlette
from starlette.routing import Route

from deltadex.errors import SettingsError
from deltadex.mlflow_plugin.identities import IDENTITIES, FlaskIdentity, Identity, ProxyIdentity
from deltadex.mlflow_plugin.pages import PATHS, Answers, add_rules
from deltadex.settings import Settings

_GROUP = "mlflow.app"
_OURS = "deltadex.mlflow_plugin"

#: Adds our pages to a Flask app.
_AddPages = Callable[[Flask], None]


def wrapped_app(settings: Settings) -> EntryPoint | None:
    """Return the entry point of the app that the settings name; None if they name none.

    Raises
    ------
    SettingsError
        No installed package has such an app, or it is Deltadex itself; or a header is to tell who asks although the
        app does.
    """
    name = settings.mlflow_app
    if name is None:
        return None
    installed = entry_points(group=_GROUP)
    # As in MLflow, the first of one name counts.
    found = next((one for one in installed if one.name == name), None)
    others = ", ".join(sorted({one.name for one in installed if not _is_ours(one)}))
    if found is None:
        raise SettingsError(
            f"DELTADEX_MLFLOW_APP: no installed package has an app {name!r}", hint=f"Installed apps: {others}."
        )
    if _is_ours(found):
        raise SettingsError(
            f"DELTADEX_MLFLOW_APP: {name!r} is Deltadex, which can't wrap itself", hint=f"Name another app: {others}."
        )
    if name in IDENTITIES and settings.mlflow_user_header:
        raise SettingsError(
            f"DELTADEX_MLFLOW_USER_HEADER is set, but {name} tells who asks",
            hint="Remove the setting: the header would go before the login.",
        )
    return found


def serve(settings: Settings, answers: Answers) -> Any:
    """Return MLflow's app, or the one that the settings name, with our pages: a Flask or a FastAPI app.

    Raises
    ------
    SettingsError
        As `wrapped_app`; or the app is not one for the server (uvicorn, gunicorn or waitress) that runs.
    """
    found = wrapped_app(settings)
    header = settings.mlflow_user_header
    told = ProxyIdentity(header) if header else None
    if found is None:
        add_rules(mlflow_app, answers, told)
        return _for_the_server(mlflow_app)
    identity = IDENTITIES.get(found.name) or told or FlaskIdentity()
    place = _PLACES.get(found.name, _among_mlflows_own)
    return _checked(place(found, _adding(answers, identity)), found.name)


def load(found: EntryPoint) -> Any:
    """Return the object that an entry point names, made if it is a factory: a function, as in MLflow."""
    value = found.load()
    return value() if isinstance(value, FunctionType) else value


def _adding(answers: Answers, identity: Identity) -> _AddPages:
    return lambda app: add_rules(app, answers, identity)


def _among_mlflows_own(found: EntryPoint, add: _AddPages) -> Any:
    """Add our rules to MLflow's Flask app, behind all that the other app puts before it."""
    add(mlflow_app)
    return load(found)


def _beside_mlflows_own(found: EntryPoint, add: _AddPages) -> Any:
    """Add our pages to mlflow-oidc-auth, behind its login.

    It refuses everyone but admins for rules of MLflow's Flask app that it does not know.
    """
    from mlflow_oidc_auth.middleware import AuthAwareWSGIMiddleware

    app, pages = load(found), Flask(_OURS)
    add(pages)
    route = Route(_add_static_prefix("/deltadex{rest:path}"), AuthAwareWSGIMiddleware(pages))
    app.router.routes.insert(0, route)
    return app


def _as_a_list_of_models(found: EntryPoint, add: _AddPages) -> Any:
    """Add our rules to MLflow's Flask app, for those whom Kubernetes lets list registered models.

    mlflow-kubernetes-plugins does not start if a rule has no permission.
    """
    from mlflow_kubernetes_plugins.auth.constants import RESOURCE_REGISTERED_MODELS
    from mlflow_kubernetes_plugins.auth.rules import PATH_AUTHORIZATION_RULES, AuthorizationRule

    for path in PATHS:
        PATH_AUTHORIZATION_RULES[path, "GET"] = AuthorizationRule("list", resource=RESOURCE_REGISTERED_MODELS)
    return _among_mlflows_own(found, add)


#: Apps that need more than rules in MLflow's Flask app.
_PLACES: Mapping[str, Callable[[EntryPoint, _AddPages], Any]] = MappingProxyType(
    {"oidc-auth": _beside_mlflows_own, "kubernetes-auth": _as_a_list_of_models}
)


def _for_the_server(app: Flask) -> Any:
    """Return MLflow's app as its own `basic-auth` does: uvicorn serves a FastAPI app around the Flask one."""
    if _server() != "uvicorn":
        return app
    from mlflow.server.fastapi_app import create_fastapi_app

    return create_fastapi_app(app)


def _checked(app: Any, name: str) -> Any:
    if isinstance(app, Flask) and _server() == "uvicorn":
        # Never wrapped into MLflow's FastAPI app: routes that the other app doesn't guard would be open.
        raise SettingsError(
            f"{name} is a Flask app, and uvicorn runs", hint="Start `mlflow server` with --gunicorn-opts ''."
        )
    if isinstance(app, Starlette) and _server() in ("gunicorn", "waitress"):
        raise SettingsError(
            f"{name} is a FastAPI app, and {_server()} runs",
            hint="Start `mlflow server` without --gunicorn-opts and --waitress-opts.",
        )
    return app


def _server() -> str | None:
    return os.environ.get("_MLFLOW_SGI_NAME")


def _is_ours(one: EntryPoint) -> bool:
    return one.value.startswith(f"{_OURS}.")
