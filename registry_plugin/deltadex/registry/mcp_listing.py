"""The entry of Deltadex's MCP server in MLflow's registry of MCP servers, which is experimental there since 3.15."""

from __future__ import annotations

from deltadex.errors import RegistryError
from deltadex.registry.client import Registry
from deltadex.registry.connection import is_missing, registry_errors

NAME = "io.deltadex/registry"
_DESCRIPTION = "What the finetuned models of this registry do: neighbours, duplicates, drift, findings, and find."
_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"


def list_mcp_server(registry: Registry, url: str, *, version: str) -> str:
    """Create or update our entry, with the address of the server; return its name. Idempotent.

    Raises
    ------
    RegistryError
        This MLflow has no such registry, or refuses.
    """
    from mlflow.exceptions import MlflowException

    client = registry.client
    if not hasattr(client, "create_mcp_server"):
        raise RegistryError("This MLflow client has no registry of MCP servers", hint="MLflow has it since 3.15.")
    with registry_errors("listing the MCP server"):
        try:
            client.get_mcp_server(NAME)
        except MlflowException as error:
            if not is_missing(error):
                raise
            client.create_mcp_server(NAME, description=_DESCRIPTION)
        try:
            client.get_mcp_server_version(NAME, version)
        except MlflowException as error:
            if not is_missing(error):
                raise
            remotes = [{"type": "streamable-http", "url": url}]
            card = {"$schema": _SCHEMA, "name": NAME, "version": version, "description": _DESCRIPTION}
            # Without a look at its tools: the server answers nobody who is not logged in.
            client.create_mcp_server_version({**card, "remotes": remotes}, tools=None)
        _set_address(registry, url, version)
    return NAME


def _set_address(registry: Registry, url: str, version: str) -> None:
    ours = registry.client.search_mcp_access_endpoints(server_name=NAME)
    for one in ours[1:]:
        registry.client.delete_mcp_access_endpoint(NAME, one.id)
    if not ours:
        registry.client.create_mcp_access_endpoint(NAME, url, server_version=version)
    elif (ours[0].url, ours[0].server_version) != (url, version):
        registry.client.update_mcp_access_endpoint(NAME, ours[0].id, url=url, server_version=version)
