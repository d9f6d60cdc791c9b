"""Roles, rights and visible models of people, and the person behind a command or a page."""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
import re
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deltadex.errors import AccessDenied, SettingsError
from deltadex.settings import Settings, workspace_of
from deltadex.types import ModelVersionRef, Provenance, RegisteredVersion, VersionRow

#: Shown instead of the name of a model that the viewer may not see.
HIDDEN = "•••"
#: `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `models:/NAME`. `models:/m-…` names no registered model.
_OF_MODEL = re.compile(r"models:/+(?!m-[^/@]*$)(?P<name>.*?)([/@][^/@]*)?", re.DOTALL | re.IGNORECASE)


class Role(StrEnum):
    """Roles in ascending order; each has the rights of those before it."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    APPROVER = "approver"
    ADMIN = "admin"


class Right(StrEnum):
    """Rights; each role adds one."""

    LOOK = "look"
    DECIDE = "decide"
    APPROVE = "approve"
    ADMINISTER = "administer"


_ADDED_RIGHT = dict(zip(Role, Right, strict=True))


@dataclass(frozen=True)
class Person:
    """A viewer or reviewer.

    Attributes
    ----------
    name
        The name in the decision log.
    models
        Patterns of the registered models that the person may see, such as `support-*`.
    identity
        What the person can't choose: `issuer#subject` of a login, or a user of this machine. Empty: the name. Two
        values with one identity are one person when a second one must approve.
    """

    name: str
    role: Role
    models: tuple[str, ...] = ("*",)
    identity: str = field(default="", compare=False)

    def may(self, right: Right) -> bool:
        """Return True if the person's role has the right."""
        ranks = list(Role)
        return any(_ADDED_RIGHT[role] is right for role in ranks[: ranks.index(self.role) + 1])

    def require(self, right: Right) -> None:
        """Raise AccessDenied if the person's role lacks the right."""
        if not self.may(right):
            needed = next(role for role, added in _ADDED_RIGHT.items() if added is right)
            raise AccessDenied(
                f"{self.name} is a {self.role} and may not {right}", hint=f"This needs the role {needed}."
            )

    @property
    def sees_all(self) -> bool:
        """True if no registered model is hidden from the person."""
        return "*" in self.models

    def sees(self, model: str) -> bool:
        """Return True if the person may see a registered model."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def shown_address(self, base_name: str) -> str:
        """Return the name of a base, or a version's source; HIDDEN if it is of a model that the person may not see."""
        name = registered_model_of(base_name)
        return base_name if name is None or self.sees(name) else HIDDEN

    def view(self, version: VersionRow) -> VersionRow:
        """Return the version itself if the person may see it, else a masked row."""
        return version if self.sees(version.registered.ref.name) else masked(version)

    def view_each(self, versions: Iterable[VersionRow]) -> list[VersionRow]:
        """Return versions, with those masked that the person may not see; none is left out."""
        return [self.view(version) for version in versions]


def registered_model_of(address: str) -> str | None:
    """Return the registered model that an address such as `models:/NAME/VERSION` names; None if it names none."""
    found = _OF_MODEL.fullmatch(address)
    return found["name"] if found else None


class Membership(BaseModel):
    """A role, and the workspaces of MLflow and the models that it applies to, as patterns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    models: tuple[str, ...] = ("*",)
    workspaces: tuple[str, ...] = ("*",)

    def covers(self, workspace: str) -> bool:
        """Return True if it applies in a workspace of MLflow."""
        return any(fnmatchcase(workspace, pattern) for pattern in self.workspaces)


class Directory(BaseModel):
    """Memberships of people by identity or name, and of groups by their name at the company's identity provider."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: Mapping[str, Membership] = Field(default_factory=dict)
    groups: Mapping[str, Membership] = Field(default_factory=dict)

    def within(self, workspace: str) -> Directory:
        """Return the memberships that apply in a workspace of MLflow; a role in one is none in another."""

        def applying(listed: Mapping[str, Membership]) -> dict[str, Membership]:
            return {name: one for name, one in listed.items() if one.covers(workspace)}

        return Directory(people=applying(self.people), groups=applying(self.groups))

    def person(self, name: str, groups: Sequence[str] = (), *, identity: str = "") -> Person:
        """Return a person by their own entry, or else with the highest role and all models of their groups.

        Parameters
        ----------
        identity
            As in `Person`; an entry under it goes before one under the name.

        Raises
        ------
        AccessDenied
            Neither the identity nor the name nor one of the groups is listed.
        """
        # Who calls themselves like another person's identity gets nothing of theirs.
        own = self.people.get(identity) or (None if _is_like_identity(name) else self.people.get(name))
        found = [own] if own else [self.groups[group] for group in groups if group in self.groups]
        if not found:
            raise AccessDenied(
                f"{name} has no role here",
                hint="An admin can add the person or one of their groups to the access file.",
            )
        role = max((one.role for one in found), key=list(Role).index)
        return Person(name, role, tuple(dict.fromkeys(pattern for one in found for pattern in one.models)), identity)


def _is_like_identity(name: str) -> bool:
    return "#" in name or name.startswith("uid ")


def from_claims(
    directory: Directory, claims: Mapping[str, object], *, now: float, name_claim: str, groups_claim: str
) -> Person:
    """Return the person of a verified token from an identity provider.

    Issuer and subject are the identity: names and addresses are given to other people later. An e-mail address that the
    provider has not verified is no name, and grants nothing; anyone may enter any address.

    Parameters
    ----------
    claims
        Claims of the token, as in `st.user`; the caller has verified the signature.
    now
        Seconds since the epoch; a token whose `exp` has passed is refused.

    Raises
    ------
    AccessDenied
        The token has expired, names no issuer, subject or person, or its person has no role.
    """
    expires = claims.get("exp")
    if not isinstance(expires, int | float) or expires <= now:
        raise AccessDenied("The login has expired", hint="Log in again.")
    issuer, subject = claims.get("iss"), claims.get("sub")
    if not (isinstance(issuer, str) and isinstance(subject, str) and issuer and subject):
        raise AccessDenied("The login names no issuer and subject", hint="Use an OpenID provider, which sends both.")
    identity, name, groups = f"{issuer}#{subject}", claims.get(name_claim), claims.get(groups_claim)
    if not isinstance(name, str) or not name:
        raise AccessDenied(f"The login has no {name_claim!r}", hint="Set DELTADEX_ACCESS__NAME_CLAIM.")
    name = claimed_name(claims, name_claim) or identity
    listed = [str(group) for group in groups] if isinstance(groups, list | tuple) else []
    return directory.person(name, listed, identity=identity)


def claimed_name(claims: Mapping[str, object], name_claim: str) -> str:
    """Return the name in the claims of a verified token; empty without one, or for an unverified e-mail address."""
    name = claims.get(name_claim)
    is_unverified = name_claim == "email" and claims.get("email_verified") is not True
    return name if isinstance(name, str) and not is_unverified else ""


def masked(version: VersionRow) -> VersionRow:
    """Return a version's row without anything that identifies the model."""
    hidden = RegisteredVersion(ModelVersionRef(version.registered.ref.registry, HIDDEN, 0, 0), source="")
    # Names of metrics and settings may identify the model; the size is part of what duplicates could free.
    size = Provenance(weights_bytes=version.provenance.weights_bytes)
    return replace(
        version,
        registered=hidden,
        reason="",
        hint="",
        flow_run_id=None,
        weights_digest=None,
        artifact_uri=None,
        provenance=size,
    )


_ANONYMOUS = Person("anonymous", Role.VIEWER)


def read_directory(settings: Settings) -> Directory | None:
    """Read people and groups from the access file, with the roles of the settings' workspace; None if there is none.

    Raises
    ------
    SettingsError
        The file is missing or invalid.
    """
    path = settings.access.file
    if path is None:
        return None
    try:
        text = path.read_text()
        listed = Directory.model_validate(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except (OSError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise SettingsError(f"{path}: {what}", hint="docs/reviews.md has an example of this file.") from error
    return listed.within(workspace_of(settings.registry))


def system_user() -> str:
    """Return the name of the user whom this process runs as; unlike `getpass.getuser`, by no variable."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        return f"uid {os.getuid()}"


def _local_identity(as_: str | None = None) -> str:
    """Return the identity of the user of this machine; without an access file they may act as several people."""
    user = f"uid {os.getuid()}"
    return f"{user} as {as_}" if as_ else user


def at_terminal(settings: Settings, *, as_: str | None = None) -> Person:
    """Return the person who runs a command: the operating system's user, as an admin if there is no access file.

    Parameters
    ----------
    as_
        Act under this name; only without an access file.

    Raises
    ------
    AccessDenied
        The user has no role, or `as_` is given although there is an access file.
    """
    directory = read_directory(settings)
    if directory is None:
        return Person(as_ or system_user(), Role.ADMIN, identity=_local_identity(as_))
    if as_ is not None:
        raise AccessDenied("--as is only allowed without an access file", hint="Log in to this machine as that person.")
    return directory.person(system_user(), identity=_local_identity())


def at_page(
    settings: Settings, *, claims: Mapping[str, object] | None, address: str | None, as_: str | None = None
) -> Person:
    """Return the person who views a page.

    Parameters
    ----------
    claims
        Claims of the verified login; None without a login.
    address
        Address of the browser. Without an access file a viewer on this machine is an admin and all others are viewers.
    as_
        Act under this name; only without an access file and from this machine.

    Raises
    ------
    AccessDenied
        There is an access file, and the person is not in it or the login has expired.
    """
    directory = read_directory(settings)
    if directory is None:
        local = Person(as_ or system_user(), Role.ADMIN, identity=_local_identity(as_))
        return local if _is_loopback(address) else _ANONYMOUS
    if claims is None:
        raise AccessDenied("This dashboard needs a login", hint="Log in.")
    access = settings.access
    return from_claims(
        directory, claims, now=time.time(), name_claim=access.name_claim, groups_claim=access.groups_claim
    )


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
