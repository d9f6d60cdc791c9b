"""`deltadex init` on real services: the entry of the MCP server is made where MLflow has such a registry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deltadex.app import App
from deltadex.errors import RegistryError
from deltadex.ingest.setup import initialise
from deltadex.registry.client import Registry
from deltadex.registry.mcp_listing import NAME, list_mcp_server
from deltadex.settings import McpSettings


def test_the_mcp_server_is_listed_if_it_has_an_address(app: App) -> None:
    assert not [line for line in initialise(app) if line.startswith("MCP")]
    settings = app.settings.model_copy(update={"mcp": McpSettings(url="https://deltadex.example/mcp")})
    assert f"MCP server: listed in MLflow as {NAME}" in initialise(replace(app, settings=settings))
    [endpoint] = app.registry.client.search_mcp_access_endpoints(server_name=NAME)
    assert endpoint.url == "https://deltadex.example/mcp"


def test_a_server_without_such_a_registry_is_a_stated_error(app: App) -> None:
    other = Registry(app.settings.prefect_url.removesuffix("/api"), name="acme")
    with pytest.raises(RegistryError) as caught:
        list_mcp_server(other, "https://deltadex.example/mcp", version="0.1.0")
    assert not caught.value.retryable
