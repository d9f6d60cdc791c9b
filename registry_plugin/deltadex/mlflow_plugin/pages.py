"""Pages under `/deltadex/` of MLflow's server. They are Flask rules: basic-auth does not cover FastAPI routes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from flask import Flask, Response, jsonify, make_response, request
from jinja2 import Environment, PackageLoader, StrictUndefined
from mlflow.server.handlers import _add_static_prefix

from deltadex.access import HIDDEN
from deltadex.errors import AccessDenied, DeltadexError
from deltadex.mlflow_plugin.identities import Caller, Identity, identify

_PAGE, _VERSION, _MODELS = "/deltadex/", "/deltadex/api/version", "/deltadex/api/models"
#: All that is served, before MLflow's static prefix.
PATHS = (_PAGE, _VERSION, _MODELS)

_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"}
_MOST_CHARACTERS, _MOST_DIGITS = 200, 9

#: The answer, the error message and the HTTP status.
_Answer = tuple[dict[str, Any] | None, str, int]


class Answers(Protocol):
    """Reads behind the pages, as JSON values. `caller` is who asks; None on an MLflow server without logins."""

    def version(self, name: str, version: int, caller: Caller | None) -> dict[str, Any] | None:
        """Return what is known about a version; None for an unknown one."""

    def models(self, search: str, page: int, caller: Caller | None) -> dict[str, Any]:
        """Return one page of the registered models that meet a search."""


def add_rules(app: Flask, answers: Answers, identity: Identity | None) -> None:
    """Serve the registered models and, with `?name=…&version=…`, a version: as pages, and as JSON below `api/`.

    Parameters
    ----------
    identity
        Tells who asks; None if MLflow has no logins.
    """

    def page() -> Response:
        wants_version = "name" in request.args
        found, error, status = (_version if wants_version else _models)(answers, identity)
        template = "version.html.jinja" if wants_version else "models.html.jinja"
        html = _templates().get_template(template).render(found=found, error=error, search=_search())
        response = make_response(html, status)
        response.headers.update(_HEADERS)
        return response

    def as_json(answer: Callable[[Answers, Identity | None], _Answer]) -> Callable[[], Response]:
        def rule() -> Response:
            found, error, status = answer(answers, identity)
            return make_response(jsonify(found or {"error": error}), status)

        return rule

    app.add_url_rule(_add_static_prefix(_PAGE), "deltadex_page", page)
    app.add_url_rule(_add_static_prefix(_VERSION), "deltadex_version", as_json(_version))
    app.add_url_rule(_add_static_prefix(_MODELS), "deltadex_models", as_json(_models))


def _version(answers: Answers, identity: Identity | None) -> _Answer:
    """Return the version that the current request asks for, the error message and the HTTP status."""
    name, version = request.args.get("name", ""), request.args.get("version", "")
    if not name or not _is_number(version):
        return None, "Ask for a version by its model's name and its number: ?name=…&version=1", 400
    found, error, status = _answered(identity, lambda caller: answers.version(name, int(version), caller))
    if error or found:
        return found, error, status
    hint = "Check the name in MLflow; a version registered just now appears within a minute."
    return None, f"Deltadex does not know {name}/{version}. {hint}", 404


def _models(answers: Answers, identity: Identity | None) -> _Answer:
    """Return the registered models that the current request asks for, the error message and the HTTP status."""
    page = request.args.get("page", "1")
    if not _is_number(page):
        return None, f"{page!r} is not the number of a page. Search again.", 400
    return _answered(identity, lambda caller: answers.models(_search(), int(page), caller))


def _answered(identity: Identity | None, answer: Callable[[Caller | None], dict[str, Any] | None]) -> _Answer:
    try:
        return answer(identify(identity)), "", 200
    except AccessDenied as error:
        return None, f"{error.message}. {error.hint}", 403
    except DeltadexError as error:
        # Hide the message: it may contain the store's address.
        hint = "Try again; if it stays so, `deltadex doctor` names the cause."
        return None, f"Deltadex can't answer now ({type(error).__name__}). {hint}", 503


def _search() -> str:
    return request.args.get("search", "")[:_MOST_CHARACTERS]


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MOST_DIGITS


@cache
def _templates() -> Environment:
    loader = PackageLoader("deltadex.mlflow_plugin", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.globals["hidden"] = HIDDEN
    return environment
