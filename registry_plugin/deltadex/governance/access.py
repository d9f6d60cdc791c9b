"""Who may do what, and see which models. Pure: who is there comes from `people.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from deltadex.domain import ModelVersionRef, RegisteredVersion, VersionRow
from deltadex.errors import AccessDenied

#: What the name of a model reads like for those who may not see it.
HIDDEN = "•••"


class Role(StrEnum):
    """What a person is here, from least to most; each may do what those before it may."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    APPROVER = "approver"
    ADMIN = "admin"


class Right(StrEnum):
    """What roles differ in."""

    LOOK = "look"
    DECIDE = "decide"
    APPROVE = "approve"
    ADMINISTER = "administer"


_GIVES = dict(zip(Role, Right, strict=True))


@dataclass(frozen=True)
class Person:
    """Somebody who looks or decides.

    Attributes
    ----------
    name
        What the log knows them by.
    models
        Patterns of the registered models that they may see, such as `support-*`.
    """

    name: str
    role: Role
    models: tuple[str, ...] = ("*",)

    def may(self, right: Right) -> bool:
        """Whether their role gives this right."""
        ranks = list(Role)
        return any(_GIVES[role] is right for role in ranks[: ranks.index(self.role) + 1])

    def require(self, right: Right) -> None:
        """Raise AccessDenied where their role does not give this right."""
        if not self.may(right):
            needed = next(role for role, gives in _GIVES.items() if gives is right)
            raise AccessDenied(f"{self.name} is a {self.role} and may not {right}", hint=f"It takes a {needed}.")

    def sees(self, model: str) -> bool:
        """Whether they may see a registered model."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def view(self, version: VersionRow) -> VersionRow:
        """Return a version as they may see it: itself, or a row that says only that there is one."""
        return version if self.sees(version.registered.ref.name) else masked(version)


class Membership(BaseModel):
    """A role and the models that go with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    models: tuple[str, ...] = ("*",)


class Directory(BaseModel):
    """People by name, and groups as the company's identity provider names them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: Mapping[str, Membership] = Field(default_factory=dict)
    groups: Mapping[str, Membership] = Field(default_factory=dict)

    def person(self, name: str, groups: Sequence[str] = ()) -> Person:
        """Return what somebody may do: their own entry, or else the highest role and all models of their groups.

        Raises
        ------
        AccessDenied
            Neither the name nor one of the groups is listed.
        """
        own = self.people.get(name)
        found = [own] if own else [self.groups[group] for group in groups if group in self.groups]
        if not found:
            raise AccessDenied(f"{name} has no role here", hint="An admin adds the name or one of its groups.")
        role = max((one.role for one in found), key=list(Role).index)
        return Person(name, role, tuple(dict.fromkeys(pattern for one in found for pattern in one.models)))


def from_claims(
    directory: Directory, claims: Mapping[str, object], *, now: float, name_claim: str, groups_claim: str
) -> Person:
    """Return the person that an identity provider's verified token is about.

    Parameters
    ----------
    claims
        The token's, as `st.user` gives them; whoever passes them has verified the signature.
    now
        Seconds since the epoch: a token past its `exp` is nobody's.

    Raises
    ------
    AccessDenied
        The token has expired, or names nobody with a role.
    """
    expires = claims.get("exp")
    if not isinstance(expires, int | float) or expires <= now:
        raise AccessDenied("The login has expired", hint="Log in again.")
    name, groups = claims.get(name_claim), claims.get(groups_claim)
    if not isinstance(name, str) or not name:
        raise AccessDenied(f"The login has no {name_claim!r}", hint="Set DELTADEX_ACCESS__NAME_CLAIM.")
    return directory.person(name, [str(group) for group in groups] if isinstance(groups, list | tuple) else [])


def masked(version: VersionRow) -> VersionRow:
    """Return a version's row without anything that tells which model it is."""
    nobody = RegisteredVersion(ModelVersionRef(version.registered.ref.registry, HIDDEN, 0, 0), source="")
    return replace(
        version, registered=nobody, reason="", hint="", flow_run_id=None, weights_digest=None, artifact_uri=None
    )
