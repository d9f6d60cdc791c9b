"""Who is at the terminal or at a page: from a file, from an identity provider's groups, or one local admin."""

from __future__ import annotations

import getpass
import ipaddress
import json
import time
import tomllib
from collections.abc import Mapping

from pydantic import ValidationError

from deltadex.errors import AccessDenied, SettingsError
from deltadex.governance.access import Directory, Person, Role, from_claims
from deltadex.settings import Settings

_ANONYMOUS = Person("anonymous", Role.VIEWER)


def read_directory(settings: Settings) -> Directory | None:
    """Read people and groups from the file that the settings name; None where they name none.

    Raises
    ------
    SettingsError
        The file is missing or says something else.
    """
    path = settings.access.file
    if path is None:
        return None
    try:
        text = path.read_text()
        return Directory.model_validate(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except (OSError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise SettingsError(f"{path}: {what}", hint="docs/reviews.md shows what it looks like.") from error


def at_terminal(settings: Settings, *, as_: str | None = None) -> Person:
    """Return who runs a command: the user of the operating system, by the file, or else a local admin.

    Parameters
    ----------
    as_
        Be somebody else, where nobody is listed anyway.

    Raises
    ------
    AccessDenied
        The user has no role, or people are listed and `as_` is given.
    """
    directory = read_directory(settings)
    if directory is None:
        return Person(as_ or getpass.getuser(), Role.ADMIN)
    if as_ is not None:
        raise AccessDenied(
            "--as is only for a Deltadex without a list of people", hint="Log in to this machine as that person."
        )
    return directory.person(getpass.getuser())


def at_page(
    settings: Settings, *, claims: Mapping[str, object] | None, address: str | None, as_: str | None = None
) -> Person:
    """Return who looks at a page.

    Parameters
    ----------
    claims
        Of the verified login; None where nobody logged in.
    address
        Where the browser is; without a list of people, somebody at this machine is its admin and all others look.
    as_
        Be somebody else, where nobody is listed and the browser is at this machine.

    Raises
    ------
    AccessDenied
        People are listed, and this is none of them or the login has expired.
    """
    directory = read_directory(settings)
    if directory is None:
        return Person(as_ or getpass.getuser(), Role.ADMIN) if _is_loopback(address) else _ANONYMOUS
    if claims is None:
        raise AccessDenied("Nobody is logged in", hint="Log in.")
    access = settings.access
    return from_claims(
        directory, claims, now=time.time(), name_claim=access.name_claim, groups_claim=access.groups_claim
    )


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
