"""Time stamps by RFC 3161: an authority signs a digest and the time, and sees nothing else."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from deltadex.errors import TimeStampError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SECONDS, _MOST_BYTES = 10, 1 << 16
#: An authority that sends a byte now and then must not hold up a round of the watcher.
_MOST_SECONDS = 30
_TYPE = "application/timestamp-query"
_NO_AUTHORITY = "Is it an RFC 3161 authority?"


def host_of(url: str) -> str:
    """Return the host of an address, which may hold a password; empty if it has none."""
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return ""


def stamp(message: bytes, url: str, *, roots: Sequence[Certificate] = ()) -> bytes:
    """Return the DER of an authority's answer for a message, of which it gets the SHA-512 only.

    Parameters
    ----------
    roots
        As in `time_of`.

    Raises
    ------
    TimeStampError
        The package `rfc3161-client` is missing, or the authority could not be reached, refused, or gave an answer to
        something else or with a wrong signature.
    """
    request = _library().TimestampRequestBuilder(message).build()
    answer = _asked(url, request.as_bytes())
    time_of(answer, message, roots=roots, nonce=request.nonce)
    return answer


def time_of(answer: bytes, message: bytes, *, roots: Sequence[Certificate] = (), nonce: int | None = None) -> datetime:
    """Return the time that an answer states for a message.

    Parameters
    ----------
    roots
        Certificates of the authorities that are believed. Without them no signature is verified, only what it is about.

    Raises
    ------
    TimeStampError
        It is no time stamp, of another message, or of an authority that the roots don't vouch for.
    """
    library = _library()
    try:
        response = library.decode_timestamp_response(answer)
        if roots:
            library.VerifierBuilder(roots=list(roots), nonce=nonce).build().verify_message(response, message)
        elif not _is_answer(response, message, nonce):
            raise ValueError("it was refused, or is over something else")
        stated: datetime = response.tst_info.gen_time
    except (library.VerificationError, ValueError) as error:
        raise TimeStampError(
            f"the time stamp does not hold: {error}", hint="Do the certificates name this authority's root?"
        ) from error
    return stated.astimezone(UTC)


def read_roots(file: Path) -> tuple[Certificate, ...]:
    """Return the certificates of a PEM file.

    Raises
    ------
    TimeStampError
        The file can't be read.
    """
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return tuple(load_pem_x509_certificates(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise TimeStampError(f"{file} can't be read: {error}", hint="It is a file of PEM certificates.") from error


def _is_answer(response: Any, message: bytes, nonce: int | None) -> bool:
    is_same = response.tst_info.message_imprint.message == hashlib.sha512(message).digest()
    return response.status == 0 and is_same and nonce in (None, response.tst_info.nonce)


def _asked(url: str, request: bytes) -> bytes:
    answer, started = b"", time.monotonic()
    try:
        with httpx.stream("POST", url, content=request, headers={"content-type": _TYPE}, timeout=_SECONDS) as response:
            for part in response.iter_bytes():
                answer += part
                if len(answer) > _MOST_BYTES:
                    raise TimeStampError("its answer is too long", hint=_NO_AUTHORITY)
                if time.monotonic() - started > _MOST_SECONDS:
                    raise TimeStampError("its answer takes too long", hint=_NO_AUTHORITY, retryable=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Neither its text nor the address: these may hold a password.
        raise TimeStampError(
            f"it did not answer: {type(error).__name__}", hint="Can this machine reach it?", retryable=True
        ) from error
    if response.status_code != httpx.codes.OK:
        is_later = response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS
        raise TimeStampError(f"HTTP {response.status_code}", hint=_NO_AUTHORITY, retryable=is_later)
    return answer


def _library() -> Any:
    try:
        import rfc3161_client
    except ImportError as error:
        raise TimeStampError(
            "the package rfc3161-client is missing", hint="Install it: `pip install deltadex[evidence]`."
        ) from error
    return rfc3161_client
