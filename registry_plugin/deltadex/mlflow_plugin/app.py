"""MLflow server apps with Deltadex's pages: `mlflow server --app-name deltadex` or `--app-name deltadex-basic-auth`."""

from __future__ import annotations

import os
from typing import Any

from deltadex.mlflow_plugin.answers import StoreAnswers


def create_app() -> Any:
    """Return MLflow's app with our pages, without authentication."""
    from mlflow.server import app
    from mlflow.server.fastapi_app import create_fastapi_app

    from deltadex.mlflow_plugin.pages import add_rules

    add_rules(app, StoreAnswers())
    # As in MLflow's basic-auth: uvicorn serves a FastAPI app around the Flask one.
    return create_fastapi_app(app) if os.environ.get("_MLFLOW_SGI_NAME") == "uvicorn" else app


def create_app_with_basic_auth() -> Any:
    """Return MLflow's app with our pages behind its basic-auth.

    Users need a login. Those without admin rights see our pages only with `MLFLOW_BASIC_AUTH_FAIL_CLOSED=false`.
    """
    from mlflow.server import app
    from mlflow.server.auth import create_app as with_basic_auth

    from deltadex.mlflow_plugin.pages import add_rules

    add_rules(app, StoreAnswers())
    return with_basic_auth(app)
