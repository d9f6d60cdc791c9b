"""The server over streamable HTTP: who asks is identified for each request, on its own; nothing is kept between two."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deltadex.access import Person
from deltadex.errors import AccessDenied, DeltadexError, SettingsError
from deltadex.mcp_server.identity import Identification
from deltadex.setting_groups import McpSettings

PATH = "/mcp"
_MOST_BYTES = 1 << 20
_MOST_REQUESTS = 32
_PERSON = "deltadex.person"

log = logging.getLogger(__name__)


def person_of(request: object | None) -> Person:
    """Return who was identified as the sender of a request."""
    person = request.scope.get(_PERSON) if isinstance(request, HTTPConnection) else None
    if not isinstance(person, Person):
        raise AccessDenied("The request names no person", hint="Send a bearer token, as docs/mcp.md says.")
    return person


def web_app(server: MCPServer[Any], identification: Identification, settings: McpSettings) -> Starlette:
    """Return the web application of a server, behind the check of who asks, and of the headers Host and Origin.

    Raises
    ------
    SettingsError
        It would listen beyond this machine without knowing who asks.
    """
    if not _is_loopback(settings.host) and not identification.has_logins:
        raise SettingsError(
            f"{settings.host} can be reached from elsewhere, and people could not be told apart",
            hint="Set DELTADEX_MCP__TOKENS_FILE, DELTADEX_MCP__ISSUER or DELTADEX_MCP__USER_HEADER first.",
        )
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=_MOST_BYTES,
        transport_security=_allowed(settings),
        host=settings.host,
    )
    app.add_middleware(_Identified, identify=identification.person)
    return app


def serve(app: Starlette, settings: McpSettings) -> None:
    """Serve until a signal."""
    uvicorn.run(
        app, host=settings.host, port=settings.port, log_level="warning", limit_concurrency=_MOST_REQUESTS,
        ws="none", proxy_headers=False, server_header=False, timeout_graceful_shutdown=2,
    )  # fmt: skip


class _Identified:
    """Refuses a request whose sender is not known, and remembers who it is."""

    def __init__(self, app: ASGIApp, *, identify: Callable[[HTTPConnection], Person]) -> None:
        self._app = app
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            # Reads files, and the keys of an identity provider.
            person = await anyio.to_thread.run_sync(self._identify, HTTPConnection(scope))
        except AccessDenied as error:
            # Without reasons: they would tell who is listed.
            log.info("refused error=%r", error.message)
            headers = {"WWW-Authenticate": "Bearer"}
            await JSONResponse({"error": "unauthorized"}, 401, headers=headers)(scope, receive, send)
            return
        except DeltadexError as error:
            log.warning("not identified error=%r", error.message)
            await JSONResponse({"error": "unavailable"}, 503)(scope, receive, send)
            return
        await self._app({**scope, _PERSON: person}, receive, send)


def _allowed(settings: McpSettings) -> TransportSecuritySettings:
    """Return the Host and Origin headers that are taken: a page elsewhere must not reach this server by a browser."""
    names = ["127.0.0.1", "localhost", "[::1]"] if _is_loopback(settings.host) else []
    names += [urlsplit(settings.url).hostname or ""] if settings.url else []
    names += [*settings.allowed_hosts, *([] if _is_any(settings.host) else [_in_url(settings.host)])]
    known = [name for name in dict.fromkeys(names) if name]
    hosts = [form for name in known for form in (name, f"{name}:*")]
    schemes = ("http", "https")
    return TransportSecuritySettings(
        allowed_hosts=hosts, allowed_origins=[f"{scheme}://{host}" for scheme in schemes for host in hosts]
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
