"""Identities: how each known app of MLflow's server tells who sends a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from flask import g, request

from deltadex.errors import AccessDenied


@dataclass(frozen=True)
class Caller:
    """Sender of a request, as MLflow's app has authenticated them.

    Attributes
    ----------
    name
        The person's name in the access file.
    groups
        Their groups, if the app knows any.
    is_admin
        Whether the app calls them an admin; admins need no access file.
    """

    name: str
    groups: tuple[str, ...] = ()
    is_admin: bool = False


class Identity(Protocol):
    """Seam to an app that authenticates. Each implementation reads what only that app, never a client, can set."""

    def caller(self) -> Caller | None:
        """Return the sender of the current Flask request; None if the app has not told."""


class FlaskIdentity:
    """Apps that keep MLflow's own convention: they set `flask.g.mlflow_authenticated_user`, which its handlers read."""

    def caller(self) -> Caller | None:
        """Return the sender, without admin rights: the convention has none."""
        name = getattr(g, "mlflow_authenticated_user", None)
        return Caller(name) if isinstance(name, str) and name else None


class BasicAuthIdentity:
    """MLflow's basic-auth: `authenticate_request` has checked the password before our rules run."""

    def caller(self) -> Caller | None:
        """Return the sender with the rights of basic-auth's store."""
        found = FlaskIdentity().caller()
        if found is None:
            return None
        from mlflow.server.auth import store

        # A custom authorization function may let in people whom the store lacks.
        return Caller(found.name, is_admin=store.has_user(found.name) and store.get_user(found.name).is_admin)


class OidcAuthIdentity:
    """`mlflow-oidc-auth`: its middleware puts an `AuthContext` into the scope of a request after its login."""

    def caller(self) -> Caller | None:
        """Return the sender with the groups that the app has kept since their last login."""
        from mlflow_oidc_auth.entities.auth_context import AUTH_CONTEXT_KEY, AuthContext
        from mlflow_oidc_auth.store import store

        found = request.environ.get(AUTH_CONTEXT_KEY)
        if not isinstance(found, AuthContext) or not found.username:
            return None
        return Caller(found.username, tuple(store.get_groups_for_user(found.username)), found.is_admin)


class KubernetesIdentity:
    """`mlflow-kubernetes-plugins`: the result of its access review; Kubernetes has accepted the token by then."""

    def caller(self) -> Caller | None:
        """Return the sender, with groups in the mode in which a proxy tells them."""
        from mlflow_kubernetes_plugins.auth.core import _AUTHORIZATION_HANDLED

        found = _AUTHORIZATION_HANDLED.get()
        if found is None or not found.username:
            return None
        return Caller(found.username, tuple(found.identity.groups or ()))


@dataclass(frozen=True)
class ProxyIdentity:
    """A header that a proxy in front of MLflow sets on every request, in place of the client's.

    Attributes
    ----------
    header
        Its name, from the settings: nothing but a person's word makes a header trustworthy.
    """

    header: str

    def caller(self) -> Caller | None:
        """Return the sender; None if the header is missing, or sent twice."""
        name = request.headers.get(self.header, "").strip()
        # Servers join repeated headers with commas: the client's own may be among them.
        return Caller(name) if name and "," not in name else None


#: Of the apps that tell more than MLflow's convention, by the name of their entry point.
IDENTITIES: Mapping[str, Identity] = MappingProxyType(
    {
        "basic-auth": BasicAuthIdentity(),
        "oidc-auth": OidcAuthIdentity(),
        "kubernetes-auth": KubernetesIdentity(),
    }
)


def identify(identity: Identity | None) -> Caller | None:
    """Return the sender of the current request; None on an MLflow server without logins, which has no identity.

    Raises
    ------
    AccessDenied
        There are logins, but nobody has told who this is.
    """
    if identity is None:
        return None
    found = identity.caller()
    if found is None:
        raise AccessDenied("Deltadex was not told who you are, and shows nothing", hint=_hint(identity))
    return found


def _hint(identity: Identity) -> str:
    if isinstance(identity, ProxyIdentity):
        return f"The proxy must send the header {identity.header} (DELTADEX_MLFLOW_USER_HEADER), once."
    if isinstance(identity, FlaskIdentity):
        return (
            "The app that DELTADEX_MLFLOW_APP names must set flask.g.mlflow_authenticated_user; if a proxy in front of "
            "MLflow sends a header with the person's name, set DELTADEX_MLFLOW_USER_HEADER to the header."
        )
    return "Log in to MLflow."
