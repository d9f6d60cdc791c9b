"""Pages under `/deltadex/` of MLflow's server. They are Flask rules: basic-auth does not cover FastAPI routes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from flask import Flask, Response, g, jsonify, make_response, request
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from mlflow.server.handlers import _add_static_prefix

from deltadex.errors import AccessDenied, DeltadexError

#: Function of model name, version and authenticated user that returns JSON values; None for an unknown version.
Answer = Callable[[str, int, str | None], dict[str, Any] | None]

_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"}


def add_rules(app: Flask, answer: Answer) -> None:
    """Serve `/deltadex/` as a page, and `/deltadex/api/version` as JSON; both take `?name=…&version=…`."""

    def page() -> Response:
        found, error, status = _answer_request(answer)
        html = _template().render(found=found, error=error, name=request.args.get("name", ""))
        response = make_response(html, status)
        response.headers.update(_HEADERS)
        return response

    def version() -> Response:
        found, error, status = _answer_request(answer)
        error = error or ("" if found else "Ask with ?name=…&version=…")
        return make_response(jsonify(found or {"error": error}), status if found or status != 200 else 400)

    app.add_url_rule(_add_static_prefix("/deltadex/"), "deltadex_page", page)
    app.add_url_rule(_add_static_prefix("/deltadex/api/version"), "deltadex_version", version)


def _answer_request(answer: Answer) -> tuple[dict[str, Any] | None, str, int]:
    """Return the answer to the current request, the error message and the HTTP status."""
    name, version = request.args.get("name", ""), request.args.get("version", "")
    if not name:
        return None, "", 200
    if not version.isdecimal():
        return None, f"{version!r} is not a version number.", 400
    try:
        found = answer(name, int(version), getattr(g, "mlflow_authenticated_user", None))
    except AccessDenied as error:
        return None, error.message, 403
    except DeltadexError as error:
        # Hide the message: it may contain the store's address.
        return None, f"Deltadex can't answer now ({type(error).__name__}).", 503
    return (found, "", 200) if found else (None, f"{name}/{version} is not known to Deltadex.", 404)


@cache
def _template() -> Template:
    loader = PackageLoader("deltadex.mlflow_plugin", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("version.html.jinja")
