"""Trust in the certificate of Prefect's server, by the settings that Prefect's client reads."""

from __future__ import annotations

from prefect.settings import PREFECT_API_SSL_CERT_FILE, PREFECT_API_TLS_INSECURE_SKIP_VERIFY

from deltadex.certificates import certificate_fault


def fault(error: Exception) -> str | None:
    """Return what is wrong with a certificate, in a few words; None if the error is about something else."""
    if isinstance(error, FileNotFoundError):  # each new client reads the file
        return f"the file of trusted authorities is missing: {_authority()}"
    # Prefect's client hides the reason of a failed connection behind an error of its own.
    chain = (error, error.__cause__, error.__context__)
    return next((found for one in chain if one and (found := certificate_fault(str(one)))), None)


def hint() -> str:
    """Return what to do about a certificate that is not accepted."""
    file = "the file with your authority's certificate"
    return f"It was checked by {_authority()}. Set PREFECT_API_SSL_CERT_FILE to {file}."


def transport(api_url: str) -> str:
    """Return how requests to Prefect are protected, in a few words."""
    if not api_url.startswith("https:"):
        return "not encrypted"
    if PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value():
        return "encrypted, certificate not checked (PREFECT_API_TLS_INSECURE_SKIP_VERIFY)"
    return f"encrypted, certificate checked by {_authority()}"


def _authority() -> str:
    path = PREFECT_API_SSL_CERT_FILE.value()
    return (
        f"PREFECT_API_SSL_CERT_FILE={path}" if path else "the public authorities, as PREFECT_API_SSL_CERT_FILE is unset"
    )
