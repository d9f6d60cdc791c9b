"""Conversion of MLflow's errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import requests
from mlflow.exceptions import MlflowException, RestException

from deltadex.certificates import certificate_fault
from deltadex.errors import DeltadexError, MissingRight, RegistryError, Resource, Shortage
from deltadex.registry import trust

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
_CREDENTIALS_HINT = (
    "Set the credentials that the store's client reads (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, …) and, for "
    "an S3 of your own, MLFLOW_S3_ENDPOINT_URL where the worker runs, and restart it. The store is asked again then "
    "and every hour."
)
_STORE_TLS_HINT = (
    "Set AWS_CA_BUNDLE (S3) or REQUESTS_CA_BUNDLE to the file with your authority's certificate where the worker runs, "
    "and restart it."
)
#: Packages of the clients of artifact stores, whose errors MLflow's client hides or passes on.
_STORE_CLIENTS = ("boto3", "botocore", "google", "azure")
#: Errors of store clients that ask for other credentials, rights or settings of the worker. A store that is not the one
#: that was meant has no such bucket.
_REFUSED = re.compile(
    r"credential|forbidden|permission|AccessDenied|AccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|"
    r"AuthenticationFailed|Unauthenticated|NoSuchBucket|\((401|403)\)",
    re.IGNORECASE,
)
#: Errors of store clients that are about the files themselves.
_PERMANENT = re.compile(r"^(ValueError|TypeError|\w*NotFound\w*)\b|NoSuchKey|\(404\)")


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
    if fault := certificate_fault(str(error)):
        return fault, trust.hint()
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
    """Convert errors of an artifact store as `registry_errors` does, and also those of the store's own client.

    Raises
    ------
    Shortage
        The store refuses this worker: its credentials are missing, wrong or have expired, or it asks another store.
    """
    try:
        with registry_errors(action), _bare_store_errors():
            yield
    except (DeltadexError, OSError):
        raise
    except Exception as error:  # each store's client has its own exceptions, with no class in common
        text = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
        message = f"MLflow: {action} failed: {text}"
        fault = certificate_fault(str(error))
        if fault or _REFUSED.search(text):
            hint = _STORE_TLS_HINT if fault else _CREDENTIALS_HINT
            raise Shortage(message, hint=hint, resource=Resource.STORE, more_than=time.time()) from error
        hint, is_permanent = "Can the worker reach this store?", bool(_PERMANENT.search(text))
        raise RegistryError(message, hint=hint, retryable=not is_permanent) from error


@contextmanager
def _bare_store_errors() -> Iterator[None]:
    """Raise the error of a store's own client in place of MLflow's, which tells neither its kind nor its code."""
    try:
        yield
    except MlflowException as error:
        hidden = error.__cause__ or error.__context__
        if hidden is not None and type(hidden).__module__.partition(".")[0] in _STORE_CLIENTS:
            raise hidden from error
        raise


def is_missing(error: MlflowException) -> bool:
    """Return True if MLflow reports that the object does not exist."""
    return bool(error.error_code == _NOT_FOUND)
