"""MLflow server apps with Deltadex's pages: `mlflow server --app-name deltadex` or `--app-name deltadex-basic-auth`."""

from __future__ import annotations

from typing import Any

import click

from deltadex.errors import DeltadexError, SettingsError
from deltadex.mlflow_plugin.answers import StoreAnswers
from deltadex.settings import load_settings

_BASIC_AUTH = "basic-auth"


def create_app() -> Any:
    """Return MLflow's app with our pages, inside the app that `DELTADEX_MLFLOW_APP` names if it names one."""
    from deltadex.mlflow_plugin.wrapping import serve

    return serve(load_settings(), StoreAnswers())


def create_app_with_basic_auth() -> Any:
    """Return MLflow's app with our pages behind its basic-auth, as `DELTADEX_MLFLOW_APP=basic-auth` does.

    Users need a login. Those without admin rights see our pages only with `MLFLOW_BASIC_AUTH_FAIL_CLOSED=false`.
    """
    from deltadex.mlflow_plugin.wrapping import serve

    settings = load_settings()
    if settings.mlflow_app not in (None, _BASIC_AUTH):
        raise SettingsError(
            f"--app-name deltadex-basic-auth serves {_BASIC_AUTH}, and DELTADEX_MLFLOW_APP names {settings.mlflow_app}",
            hint="Use --app-name deltadex.",
        )
    return serve(settings.model_copy(update={"mlflow_app": _BASIC_AUTH}), StoreAnswers())


def _check_settings() -> None:
    """Load the wrapped app once, before `mlflow server` starts workers: they would fail, and start again, for ever.

    MLflow imports this module to see whether its app is a factory, as it does with the app that is wrapped here.
    """
    try:
        settings = load_settings()
        if settings.mlflow_app is not None:
            from deltadex.mlflow_plugin.wrapping import wrapped_app

            found = wrapped_app(settings)
            if found is not None:
                found.load()
    except DeltadexError as error:
        raise click.ClickException(f"{error.message}. {error.hint}") from error


_check_settings()
