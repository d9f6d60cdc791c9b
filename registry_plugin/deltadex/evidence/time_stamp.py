"""Time stamps of a pack's signature, by an authority of RFC 3161: it vouches for the time, and sees only a digest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx

from deltadex.errors import EvidenceError
from deltadex.evidence.extra import evidence_extra
from deltadex.evidence.signing import TimeStamper
from deltadex.settings import Settings

_SECONDS, _MOST_BYTES = 10, 1 << 16
_TYPE = "application/timestamp-query"


def time_stamper_of(settings: Settings) -> TimeStamper | None:
    """Return the function that asks the authority of the settings; None if they name none."""
    url = settings.evidence.time_stamp_url
    return None if url is None else lambda message: stamp(message, url)


def stamp(message: bytes, url: str) -> bytes:
    """Return the DER of an authority's answer for a message, of which it gets the SHA-512 only.

    Raises
    ------
    EvidenceError
        The authority could not be reached or refused, or it answered to something else.
    """
    with evidence_extra():
        import rfc3161_client as library
    request = library.TimestampRequestBuilder(message).build()
    answer = _asked(url, request.as_bytes())
    try:
        response = library.decode_timestamp_response(answer)
        is_same = response.tst_info.message_imprint.message == request.message_imprint.message
        if response.status != 0 or not is_same or response.tst_info.nonce != request.nonce:
            raise ValueError("it refused, or answered to something else")
    except ValueError as error:
        raise EvidenceError(f"{_host(url)}: no time stamp: {error}", hint="Is it an RFC 3161 authority?") from error
    return answer


def stamped_at(answer: bytes, message: bytes, roots: Path) -> datetime:
    """Return the time that an answer vouches for, after its signature was verified.

    Parameters
    ----------
    roots
        Root certificates (PEM) of the authorities that are believed.

    Raises
    ------
    EvidenceError
        It is no time stamp, of another message, or by nobody whom the roots vouch for.
    """
    with evidence_extra():
        import rfc3161_client as library
        from cryptography.x509 import load_pem_x509_certificates
    try:
        response = library.decode_timestamp_response(answer)
        known = load_pem_x509_certificates(roots.read_bytes())
        library.VerifierBuilder(roots=known).build().verify_message(response, message)
        return response.tst_info.gen_time.astimezone(UTC)
    except (library.VerificationError, ValueError, OSError) as error:
        raise EvidenceError(f"The time stamp does not hold: {error}", hint="Ask for another copy.") from error


def _asked(url: str, request: bytes) -> bytes:
    answer = b""
    try:
        with httpx.stream("POST", url, content=request, headers={"content-type": _TYPE}, timeout=_SECONDS) as response:
            response.raise_for_status()
            for part in response.iter_bytes():
                answer += part
                if len(answer) > _MOST_BYTES:
                    raise EvidenceError(f"{_host(url)}: its answer is too long", hint="Is it an RFC 3161 authority?")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Neither its text nor the address: these may hold a password.
        raise EvidenceError(
            f"The time stamp authority {_host(url)} did not answer: {type(error).__name__}",
            hint="See DELTADEX_EVIDENCE__TIME_STAMP_URL.",
            retryable=True,
        ) from error
    return answer


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return "(no address)"
