"""Kinds of witnesses, and the one list of them: a new kind is a file and a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from urllib.parse import parse_qsl

from deltadex.errors import SettingsError
from deltadex.settings import Settings
from deltadex.witness.head import Held, LogHead

_HINT = 'DELTADEX_WITNESSES is a list such as ["folder:/mnt/heads", "git+ssh://git@host/heads.git"]: docs/witness.md.'
#: A host without a user: a name or an IPv6 address, and a port.
_HOST = re.compile(r"([^:?]*|\[[^]]*\])(:\d+)?")


class Witness(Protocol):
    """A place outside the database that holds published heads.

    Attributes
    ----------
    name
        Its address without secrets, by which the store knows it.
    least_pause
        Shortest time between two heads that are published to it.
    """

    @property
    def name(self) -> str:
        """Address without secrets."""
        ...

    @property
    def least_pause(self) -> timedelta:
        """Shortest time between two publications."""
        ...

    def publish(self, head: LogHead) -> LogHead:
        """Publish a head. Return it, with a time stamp if this witness gives them.

        Raises
        ------
        WitnessError
            The witness refused the head, or could not be reached.
        """
        ...

    def held(self, registry: str) -> Held | None:
        """Return the heads of a registry that it holds; None if it can't be asked.

        Raises
        ------
        WitnessError
            It can be asked, and did not answer.
        """
        ...

    def caution(self) -> str:
        """Return why it is weaker than it should be; empty if nothing is known."""
        ...


@dataclass(frozen=True)
class Address:
    """Address of a witness.

    Attributes
    ----------
    scheme
        The part before the first colon, such as `git+ssh`.
    place
        The rest, without the options. It may contain a password.
    options
        The part after `#`, in the form of a query.
    """

    scheme: str
    place: str
    options: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The address without user, password, query and options."""
        start, slashes, rest = self.place.partition("//")
        if not slashes:
            return f"{self.scheme}:{self.place}"
        host, slash, path = rest.partition("/")
        return f"{self.scheme}:{start}//{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"

    def without_secrets(self, text: str) -> str:
        """Return a text, such as an error of a program that was given the address, with the address as it is shown."""
        host, _, path = self.place.partition("//")[2].partition("/")
        user, query = host.rpartition("@")[0], path.partition("?")[2]
        text = text.replace(f"{user}@", "") if user else text
        return text.replace(f"?{query}", "") if query else text

    def pause(self, minutes: float) -> timedelta:
        """Return the option `minutes`, or else a default.

        Raises
        ------
        SettingsError
            The option is no number.
        """
        return timedelta(minutes=self.number("minutes", minutes))

    def number(self, option: str, default: float) -> float:
        """Return an option as a number of 0 or more; raises SettingsError if it is none."""
        try:
            value = float(self.options.get(option, default))
        except ValueError:
            value = -1
        if not 0 <= value <= 1e6:
            raise SettingsError(f"Witness {self.shown}: {option} must be a number of 0 or more", hint=_HINT)
        return value


def parse_address(text: str) -> Address:
    """Return the parts of an address.

    Raises
    ------
    SettingsError
        It has no scheme, or a password that would be taken for another part of it. The address isn't shown.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or not scheme or "/" in scheme:
        raise SettingsError("A witness has an address that doesn't begin with its kind", hint=_HINT)
    place, _, options = rest.partition("#")
    if "+" in scheme and "@" in rest and not _has_plain_host(place):
        raise SettingsError(
            f"A witness of the kind {scheme} has an address without a host that can be read",
            hint="Write it as kind://user:password@host/path, with each /, # and ? of a password as %2F, %23 and %3F.",
        )
    return Address(scheme.lower(), place, dict(parse_qsl(options, keep_blank_values=True)))


def _has_plain_host(place: str) -> bool:
    """Return True unless what stands before the path may be a part of a password."""
    start, slashes, rest = place.partition("//")
    host = rest.partition("/")[0]
    return not start and bool(slashes) and ("@" in host or _HOST.fullmatch(host) is not None)


@dataclass(frozen=True)
class WitnessKind:
    """A kind of witness.

    Attributes
    ----------
    schemes
        Schemes of its addresses.
    options
        Options that its addresses may have, besides `minutes`.
    open
        Makes a witness of an address; connects to nothing.
    """

    schemes: tuple[str, ...]
    options: tuple[str, ...]
    open: Callable[[Address, Settings], Witness]


def opened(kinds: Sequence[WitnessKind], settings: Settings) -> list[Witness]:
    """Return the witnesses of the settings, in their order.

    Raises
    ------
    SettingsError
        An address can't be read, is of no known kind or stands there twice.
    """
    by_scheme = {scheme: kind for kind in kinds for scheme in kind.schemes}
    found: dict[str, Witness] = {}
    for secret in settings.witnesses:
        address = parse_address(secret.get_secret_value())
        kind = by_scheme.get(address.scheme)
        if kind is None:
            known = ", ".join(by_scheme)
            raise SettingsError(f"{address.scheme} is no kind of witness", hint=f"Kinds: {known}. {_HINT}")
        unknown = sorted(set(address.options) - {*kind.options, "minutes"})
        if unknown:
            allowed = ", ".join((*kind.options, "minutes"))
            raise SettingsError(f"Witness {address.shown}: unknown option {unknown[0]}", hint=f"Options: {allowed}.")
        witness = kind.open(address, settings)
        if witness.name in found:
            raise SettingsError(f"The witness {witness.name} stands twice in DELTADEX_WITNESSES", hint=_HINT)
        found[witness.name] = witness
    return list(found.values())
