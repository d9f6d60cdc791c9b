"""The entry of the MCP server in a real MLflow's registry of MCP servers."""

from __future__ import annotations

from deltadex.registry.client import Registry
from deltadex.registry.mcp_listing import NAME, list_mcp_server


def test_the_server_is_listed_once_and_its_address_follows(registry: Registry) -> None:
    for url in ("https://one.example/mcp", "https://one.example/mcp", "https://two.example/mcp"):
        assert list_mcp_server(registry, url, version="0.1.0") == NAME
    [endpoint] = registry.client.search_mcp_access_endpoints(server_name=NAME)
    assert (endpoint.url, str(endpoint.transport_type)) == ("https://two.example/mcp", "streamable-http")
    [version] = registry.client.search_mcp_server_versions(NAME)
    assert version.version == "0.1.0"
    list_mcp_server(registry, "https://two.example/mcp", version="0.2.0")
    [endpoint] = registry.client.search_mcp_access_endpoints(server_name=NAME)
    assert endpoint.server_version == "0.2.0"
