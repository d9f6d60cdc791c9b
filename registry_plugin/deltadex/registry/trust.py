"""Trust in the certificate of MLflow's server, by the settings that MLflow's client and `requests` read."""

from __future__ import annotations

import os

from mlflow.environment_variables import MLFLOW_TRACKING_INSECURE_TLS

#: In the order in which they win.
_AUTHORITIES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def authority() -> str:
    """Return the setting that names the trusted authorities, with its file, or that there is none."""
    for name in _AUTHORITIES:
        if path := os.environ.get(name):
            return f"{name}={path}"
    return "the public authorities, as neither MLFLOW_TRACKING_SERVER_CERT_PATH nor REQUESTS_CA_BUNDLE is set"


def transport(tracking_uri: str) -> str:
    """Return how requests to MLflow are protected, in a few words."""
    if not tracking_uri.startswith("https:"):
        return "not encrypted"
    if MLFLOW_TRACKING_INSECURE_TLS.get():
        return "encrypted, certificate not checked (MLFLOW_TRACKING_INSECURE_TLS)"
    return f"encrypted, certificate checked by {authority()}"


def hint() -> str:
    """Return what to do about a certificate that is not accepted."""
    return (
        f"It was checked by {authority()}. Set MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE to the file with "
        "your authority's certificate; a server that asks for one of yours, MLFLOW_TRACKING_CLIENT_CERT_PATH."
    )
