"""Conversion of MLflow's errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import requests
from mlflow.exceptions import MlflowException, RestException

from deltadex.errors import DeltadexError, MissingRight, RegistryError

_NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
_RETRYABLE_CODES = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
#: The code of the server's own failures, and of whatever the client raises without one.
_WITHOUT_CODE = "INTERNAL_ERROR"
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_UP_HINT = "Is the MLflow server up? `deltadex doctor` checks it."
_REFUSAL_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for "
    "watcher and worker.",
    HTTPStatus.FORBIDDEN: "Give Deltadex's account in MLflow the right EDIT on `registered_model *` and on "
    "`experiment *`.",
}
_TLS = "CERTIFICATE_VERIFY_FAILED"
_TLS_HINT = (
    "Set REQUESTS_CA_BUNDLE, or MLFLOW_TRACKING_SERVER_CERT_PATH, to the file with your authority's certificate."
)
_CREDENTIALS_HINT = (
    "Set the credentials that the store's client reads where the worker runs, such as AWS_ACCESS_KEY_ID or "
    "GOOGLE_APPLICATION_CREDENTIALS."
)
#: Names and texts of store clients' errors that no retry mends.
_REFUSED_KINDS = re.compile(r"credential|auth|permission|forbidden|NotFound|^ValueError$|^TypeError$", re.IGNORECASE)
_REFUSED = re.compile(r"AccessDenied|NoSuchBucket|NoSuchKey|\((401|403|404)\)")


@contextmanager
def registry_errors(action: str) -> Iterator[None]:
    """Convert MLflow's errors to `RegistryError`, with the failed action in the message.

    MLflow reports failures of the server as INTERNAL_ERROR, and also whatever its client refuses without a request: an
    artifact store of an unknown kind, for example, which no retry will mend.
    """
    try:
        yield
    except ImportError as error:
        raise RegistryError(
            f"MLflow: {action} failed: the Python package {(error.name or str(error)).partition('.')[0]} is missing",
            hint="Install it where the worker runs: boto3 for S3, google-cloud-storage, azure-storage-blob.",
        ) from error
    except (MlflowException, requests.RequestException) as error:
        refusal = _refusal(error)
        if refusal:
            text, hint, retryable = *refusal, False
        elif _is_unreachable(error):
            text, hint, retryable = "the server cannot be reached", _UP_HINT, True
        else:
            text, retryable = _first_line(error), isinstance(error, MlflowException) and _is_transient(error)
            hint = _UP_HINT if retryable else ""
        kind = MissingRight if _status_of(error) == HTTPStatus.FORBIDDEN else RegistryError
        raise kind(f"MLflow: {action} failed: {text}", hint=hint, retryable=retryable) from error


def _refusal(error: MlflowException | requests.RequestException) -> tuple[str, str] | None:
    """Return text and hint for what no retry mends: wrong credentials, missing rights, an unknown certificate."""
    if _TLS in str(error):
        return "its certificate is not trusted", _TLS_HINT
    hint = _REFUSAL_HINTS.get(_status_of(error))
    return (_first_line(error), hint) if hint else None


def _status_of(error: MlflowException | requests.RequestException) -> int:
    """Return the HTTP status that an error stands for; 0 if there was no answer."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())
    return error.response.status_code if error.response is not None else 0


def _is_unreachable(error: MlflowException | requests.RequestException) -> bool:
    status = _status_of(error) if isinstance(error, requests.RequestException) else None
    if status is None:
        return isinstance(error.__context__, requests.ConnectionError)
    return status == 0 or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _is_transient(error: MlflowException) -> bool:
    if error.error_code != _WITHOUT_CODE:
        return error.error_code in _RETRYABLE_CODES
    if isinstance(error, RestException) or isinstance(error.__context__, requests.RequestException):
        return True
    return "API request to" in str(error) and not re.search(r"(status|error) code 4\d\d", str(error))


@contextmanager
def store_errors(action: str) -> Iterator[None]:
    """Convert errors of an artifact store as `registry_errors` does, and also those of the store's own client."""
    try:
        with registry_errors(action):
            yield
    except (DeltadexError, OSError):
        raise
    except Exception as error:  # each store's client has its own exceptions, with no class in common
        text = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
        is_refused = bool(_REFUSED_KINDS.search(type(error).__name__) or _REFUSED.search(text))
        raise RegistryError(
            f"MLflow: {action} failed: {text}",
            hint=_CREDENTIALS_HINT if is_refused else "Can the worker reach this store?",
            retryable=not is_refused,
        ) from error


def is_missing(error: MlflowException) -> bool:
    """Return True if MLflow reports that the object does not exist."""
    return bool(error.error_code == _NOT_FOUND)
