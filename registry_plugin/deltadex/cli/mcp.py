"""The command `mcp`: the server that an engineer's assistant asks."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated

import typer

from deltadex.access import at_terminal
from deltadex.cli.options import DatabaseUrl, DataDir, settings_from
from deltadex.errors import SettingsError
from deltadex.store.database import Database


class McpTransport(StrEnum):
    """Transport between an assistant and the server."""

    STDIO = "stdio"
    HTTP = "http"


def mcp(
    transport: Annotated[
        McpTransport, typer.Option(help="stdio: the assistant starts this process. http: it runs for many people.")
    ] = McpTransport.STDIO,
    host: Annotated[str | None, typer.Option(help="With http: address to bind.", show_default="setting")] = None,
    port: Annotated[int | None, typer.Option(help="With http: port to bind.", show_default="setting")] = None,
    allow_requests: Annotated[
        bool,
        typer.Option("--allow-requests", help="Also offer the search by examples, which lets a worker train."),
    ] = False,
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="With stdio: act as another person. Only without an access file."),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Answer engineers' assistants by the Model Context Protocol. Reads only, as the person who asks."""
    if transport is McpTransport.STDIO and (host or port):
        raise typer.BadParameter("--host and --port go with --transport http")
    if transport is McpTransport.HTTP and as_:
        raise typer.BadParameter("--as goes with stdio: over http each request says who asks")
    try:
        from deltadex.mcp_server import http
        from deltadex.mcp_server.identity import Identification
        from deltadex.mcp_server.server import RegistryTools, build_server
    except ImportError as error:
        raise SettingsError(
            f"The MCP server needs the package {error.name}", hint="pip install 'deltadex[mcp]'"
        ) from error
    settings = settings_from(data_dir, database_url=database_url)
    with ExitStack() as opened:
        database = opened.enter_context(Database(settings.url_of("reader"), pool_size=settings.database.pool_size))
        # A login of its own, used by that tool alone: it says who asks.
        asking = opened.enter_context(Database(settings.url_of("dashboard"))) if allow_requests else None
        if transport is McpTransport.STDIO:
            viewer = at_terminal(settings, as_=as_)
            build_server(RegistryTools(settings, database, lambda _: viewer, asking=asking)).run("stdio")
            return
        given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        listening = settings.mcp.model_copy(update=given)
        server = build_server(RegistryTools(settings, database, http.person_of, asking=asking))
        http.serve(http.web_app(server, Identification(settings), listening), listening)
