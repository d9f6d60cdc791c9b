"""A witness that vouches for the time of a head: an authority of time stamps by RFC 3161."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deltadex.errors import SettingsError, TimeStampError, WitnessError
from deltadex.settings import Settings
from deltadex.time_stamps import host_of, read_roots, stamp, time_of
from deltadex.witness.head import LogHead
from deltadex.witness.kinds import Address

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

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
        if not host_of(self._url):
            raise SettingsError(f"Witness {self.name}: no host", hint="Write it as tsa+https://host/path#ca=/file.pem.")

    def publish(self, head: LogHead) -> LogHead:
        """Return the head with this authority's time stamp.

        Raises
        ------
        WitnessError
            The package `rfc3161-client` or the file of certificates is missing, or the authority could not be reached,
            refused, or gave an answer to something else or with a wrong signature.
        """
        with self._named():
            answer = stamp(head.statement(), self._url, roots=self._roots)
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
        with self._named():
            return time_of(answer, head.statement(), roots=self._roots)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except TimeStampError as error:
            hint = f"{error.hint} `ca` in the witness's address names the certificates."
            raise WitnessError(f"{self.name}: {error.message}", hint=hint, retryable=error.retryable) from error

    @cached_property
    def _roots(self) -> tuple[Certificate, ...]:
        return () if self._roots_file is None else read_roots(Path(self._roots_file))
