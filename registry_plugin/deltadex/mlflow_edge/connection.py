"""One way to talk to MLflow, and one way for it to fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.exceptions import MlflowException

from deltadex.errors import RegistryError

_NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
_TRANSIENT = {"TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED"}


@contextmanager
def registry_errors(doing: str) -> Iterator[None]:
    """Turn MLflow's errors into `RegistryError` with the action in front.

    Connection failures arrive from MLflow as INTERNAL_ERROR, so that code counts as transient.
    """
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        if isinstance(error, requests.RequestException) or isinstance(error.__context__, requests.ConnectionError):
            text, retryable = "the server can't be reached", True
        else:
            text, retryable = str(error).strip().partition("\n")[0][:300], error.error_code in _TRANSIENT
        hint = "Is the MLflow server up? `deltadex doctor` checks it." if retryable else ""
        raise RegistryError(f"MLflow: {doing} failed: {text}", hint=hint, retryable=retryable) from error


def is_missing(error: MlflowException) -> bool:
    """Whether MLflow says that the thing does not exist."""
    return bool(error.error_code == _NOT_FOUND)
