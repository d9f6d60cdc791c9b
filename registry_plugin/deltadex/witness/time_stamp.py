"""A witness that vouches for the time of a head: an authority of time stamps by RFC 3161."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from deltadex.errors import SettingsError, WitnessError
from deltadex.settings import Settings
from deltadex.witness.head import LogHead
from deltadex.witness.kinds import Address

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SECONDS = 10
_MAX_BYTES = 1 << 16
_TYPE = "application/timestamp-query"
#: Public authorities limit requests.
_MINUTES = 5


class TimeStampWitness:
    """An authority that signs a head's hash and the time.

    It keeps nothing. Its answer is kept in the database and goes with the head to the other witnesses.
    """

    def __init__(self, address: Address, settings: Settings) -> None:  # noqa: ARG002 - as every kind
        self.name = address.shown
        self.least_pause = address.pause(_MINUTES)
        self._url = f"{address.scheme.removeprefix('tsa+')}:{address.place}"
        self._roots_file = address.options.get("ca")
        if not _host_of(self._url):
            raise SettingsError(f"Witness {self.name}: no host", hint="Write it as tsa+https://host/path#ca=/file.pem.")

    def publish(self, head: LogHead) -> LogHead:
        """Return the head with this authority's time stamp.

        Raises
        ------
        WitnessError
            The package `rfc3161-client` or the file of certificates is missing, or the authority could not be reached,
            refused, or gave an answer to something else or with a wrong signature.
        """
        request = _library(self.name).TimestampRequestBuilder(head.statement()).build()
        answer = self._ask(request.as_bytes())
        self._verify(answer, head, nonce=request.nonce)
        return replace(head, stamps={**head.stamps, self.name: base64.b64encode(answer).decode()})

    def held(self, registry: str) -> None:
        """Return None: an authority keeps no heads."""

    def caution(self) -> str:
        """Return that the signatures aren't verified here."""
        return "" if self._roots_file else "its signatures are not verified: no `#ca=FILE` in its address"

    def time_of(self, head: LogHead) -> datetime | None:
        """Return the time that this authority vouches for; None if it has not stamped this head.

        Raises
        ------
        WitnessError
            The time stamp is not one of this authority, or is over something else.
        """
        if self.name not in head.stamps:
            return None
        try:
            answer = base64.b64decode(head.stamps[self.name], validate=True)
        except (binascii.Error, ValueError) as error:
            raise WitnessError(f"{self.name}: a time stamp that is no base64", hint="It was changed.") from error
        return self._verify(answer, head, nonce=None)

    def _ask(self, request: bytes) -> bytes:
        try:
            with httpx.stream(
                "POST", self._url, content=request, headers={"content-type": _TYPE}, timeout=_SECONDS
            ) as response:
                answer = b""
                for part in response.iter_bytes():
                    answer += part
                    if len(answer) > _MAX_BYTES:
                        raise WitnessError(f"{self.name}: its answer is too long", hint="Is it an RFC 3161 authority?")
        except httpx.HTTPError as error:
            raise WitnessError(
                f"{self.name}: {type(error).__name__}", hint="Can the watcher reach it?", retryable=True
            ) from error
        if response.status_code != httpx.codes.OK:
            raise WitnessError(
                f"{self.name}: HTTP {response.status_code}",
                hint="Is it an RFC 3161 authority?",
                retryable=response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS,
            )
        return answer

    def _verify(self, answer: bytes, head: LogHead, *, nonce: int | None) -> datetime:
        """Return the time of an answer, once it is verified."""
        library = _library(self.name)
        try:
            response = library.decode_timestamp_response(answer)
            if self._roots:
                verifier = library.VerifierBuilder(roots=list(self._roots), nonce=nonce).build()
                verifier.verify_message(response, head.statement())
            elif not _is_answer(response, head, nonce):
                raise ValueError("it is over something else")
            time: datetime = response.tst_info.gen_time
        except (library.VerificationError, ValueError) as error:
            raise WitnessError(
                f"{self.name}: the time stamp does not hold: {error}",
                hint="`ca` in its address names the authority's root certificate; else the time stamp was changed.",
            ) from error
        return time.astimezone(UTC)

    @cached_property
    def _roots(self) -> tuple[Certificate, ...]:
        if self._roots_file is None:
            return ()
        from cryptography.x509 import load_pem_x509_certificates

        try:
            return tuple(load_pem_x509_certificates(Path(self._roots_file).read_bytes()))
        except (OSError, ValueError) as error:
            raise WitnessError(
                f"{self.name}: {self._roots_file} can't be read: {error}", hint="It is a file of PEM certificates."
            ) from error


def _host_of(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return ""


def _is_answer(response: Any, head: LogHead, nonce: int | None) -> bool:
    """Return whether an answer is granted for the same hash and nonce; its signature is not looked at."""
    is_granted = response.status == 0
    is_same = response.tst_info.message_imprint.message == hashlib.sha512(head.statement()).digest()
    return is_granted and is_same and nonce in (None, response.tst_info.nonce)


def _library(name: str) -> Any:
    try:
        import rfc3161_client
    except ImportError as error:
        raise WitnessError(
            f"{name}: the package rfc3161-client is missing", hint="Install deltadex[evidence]."
        ) from error
    return rfc3161_client
