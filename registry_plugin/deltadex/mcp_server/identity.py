"""The person behind a request over HTTP: by a bearer token, by a proxy that has logged them in, or by this machine."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jwt
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import HTTPConnection

from deltadex.access import Person, Role, at_terminal, claimed_name, from_claims, read_directory
from deltadex.errors import AccessDenied, SettingsError
from deltadex.peer import is_own_program
from deltadex.setting_groups import McpSettings
from deltadex.settings import Settings

#: Header in which a proxy proves that it is the one of the settings.
PROXY_SECRET_HEADER = "X-Deltadex-Proxy-Secret"  # noqa: S105
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
_LOOPBACK = ("127.0.0.1", "::1")
#: Shorter tokens can be guessed.
_TOKEN_CHARACTERS = 32
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
_UNKNOWN = AccessDenied("The request names no person", hint="Send a bearer token, as docs/mcp.md says.")


class _TokenFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Mapping[str, str]


class Identification:
    """Identifies the sender of each request as the settings say; without a login of theirs, only this machine's user.

    Raises
    ------
    SettingsError
        A setting lacks its counterpart, or the file of tokens can't be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mcp = settings.mcp
        _require_whole(settings.mcp)
        self._tokens()  # a wrong file is told at the start, not to the first who asks

    @property
    def has_logins(self) -> bool:
        """True if people can be told apart; else only the user of this machine is known."""
        return bool(self._mcp.tokens_file or self._mcp.issuer or self._mcp.user_header)

    def person(self, connection: HTTPConnection) -> Person:
        """Return who sends a request.

        Raises
        ------
        AccessDenied
            The request names no person who is known and listed.
        """
        scheme, _, token = connection.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token and self.has_logins:
            return self._of_token(token.strip())
        if self._mcp.user_header and self._mcp.user_header in connection.headers:
            return self._of_proxy(connection, self._mcp.user_header)
        if not self.has_logins and _is_from_here(connection):
            return at_terminal(self._settings)
        raise _UNKNOWN

    def _of_token(self, token: str) -> Person:
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        name = self._tokens().get(digest) if len(token) >= _TOKEN_CHARACTERS else None
        if name is not None:
            return self._named(name, identity=f"mcp token of {name}")
        if self._mcp.issuer:
            return self._of_claims(self._claims(token))
        raise _UNKNOWN

    def _of_proxy(self, connection: HTTPConnection, header: str) -> Person:
        given = connection.headers.get(PROXY_SECRET_HEADER, "").encode()
        secret = self._mcp.proxy_secret
        # Two headers of one name: the proxy has added its own to that of a client.
        names = connection.headers.getlist(header)
        if secret is None or not hmac.compare_digest(given, secret.get_secret_value().encode()) or len(names) != 1:
            raise _UNKNOWN
        if not names[0].strip():  # some proxies send the header empty for those who have not logged in
            raise _UNKNOWN
        return self._named(names[0], identity=f"mcp proxy {names[0]}")

    def _named(self, name: str, *, identity: str) -> Person:
        directory = read_directory(self._settings)
        return directory.person(name, identity=identity) if directory else Person(name, Role.VIEWER, identity=identity)

    def _tokens(self) -> Mapping[str, str]:
        """Return the names by digest. The file is read for each request: a token that is struck out ends at once."""
        path = self._mcp.tokens_file
        if path is None:
            return {}
        try:
            return _TokenFile.model_validate(json.loads(path.read_text())).tokens
        except (OSError, ValueError) as error:
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise SettingsError(f"{path}: {what}", hint="docs/mcp.md has an example of this file.") from error

    @cached_property
    def _keys(self) -> jwt.PyJWKClient:
        return jwt.PyJWKClient(str(self._mcp.jwks_url), cache_keys=True, timeout=10)

    def _claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token whose signature, audience, issuer and time are right."""
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(_ALGORITHMS),
                audience=self._mcp.audience,
                issuer=self._mcp.issuer,
                options={"require": ["exp", "iss", "sub", "aud"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise SettingsError(
                f"The keys of the identity provider can't be read: {error}", hint="Check DELTADEX_MCP__JWKS_URL."
            ) from error
        except jwt.PyJWTError as error:
            raise AccessDenied("The bearer token is not valid", hint="Log in again.") from error
        return claims

    def _of_claims(self, claims: Mapping[str, Any]) -> Person:
        access, directory = self._settings.access, read_directory(self._settings)
        if directory is None:
            identity = f"{claims['iss']}#{claims['sub']}"
            name = claimed_name(claims, access.name_claim) or identity
            return Person(name, Role.VIEWER, identity=identity)
        return from_claims(
            directory, claims, now=time.time(), name_claim=access.name_claim, groups_claim=access.groups_claim
        )


def _require_whole(settings: McpSettings) -> None:
    if settings.issuer and not (settings.audience and settings.jwks_url):
        raise SettingsError(
            "DELTADEX_MCP__ISSUER needs an audience and keys",
            hint="Set DELTADEX_MCP__AUDIENCE and DELTADEX_MCP__JWKS_URL.",
        )
    if settings.user_header and settings.proxy_secret is None:
        raise SettingsError(
            "DELTADEX_MCP__USER_HEADER needs a secret of the proxy, or any client could send it",
            hint=f"Set DELTADEX_MCP__PROXY_SECRET, and let the proxy send it as {PROXY_SECRET_HEADER}.",
        )


def _is_from_here(connection: HTTPConnection) -> bool:
    """Return True if a program of this user, and no proxy, has sent a request from this machine."""
    client = connection.client
    is_forwarded = any(name in connection.headers for name in _FORWARDED)
    return client is not None and client.host in _LOOPBACK and not is_forwarded and is_own_program(client.port)
