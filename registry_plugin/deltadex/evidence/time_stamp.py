"""Time stamps of a pack's signature: an authority vouches for the time, and sees only a digest."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from deltadex import time_stamps
from deltadex.errors import EvidenceError, TimeStampError
from deltadex.evidence.signing import TimeStamper
from deltadex.settings import Settings


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
    try:
        return time_stamps.stamp(message, url)
    except TimeStampError as error:
        raise EvidenceError(
            f"The time stamp authority {time_stamps.host_of(url)}: {error.message}",
            hint=f"{error.hint} It is named by DELTADEX_EVIDENCE__TIME_STAMP_URL.",
            retryable=error.retryable,
        ) from error


def stamped_at(answer: bytes, message: bytes, roots: Path) -> datetime:
    """Return the time that an answer vouches for, after its signature was verified.

    Parameters
    ----------
    roots
        Root certificates (PEM) of the authorities that are believed.

    Raises
    ------
    TimeStampError
        It is no time stamp, of another message, or of an authority that the roots don't vouch for.
    """
    return time_stamps.time_of(answer, message, roots=time_stamps.read_roots(roots))
