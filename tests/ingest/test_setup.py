"""`deltadex init` on real services: the entry of the MCP server is made where MLflow has such a registry."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deltadex.app import App
from deltadex.errors import RegistryError
from deltadex.ingest.setup import initialise
from deltadex.registry.client import Registry
from deltadex.registry.mcp_listing import NAME, list_mcp_server
from deltadex.setting_groups import McpSettings


def test_the_mcp_server_is_listed_if_it_has_an_address(app: App) -> None:
    assert not [line for line in initialise(app) if line.startswith("MCP")]
    settings = app.settings.model_copy(update={"mcp": McpSettings(url="https://deltadex.example/mcp")})
    assert f"MCP server: listed in MLflow as {NAME}" in initialise(replace(app, settings=settings))
    [endpoint] = app.registry.client.search_mcp_access_endpoints(server_name=NAME)
    assert endpoint.url == "https://deltadex.example/mcp"


class _Older(BaseHTTPRequestHandler):
    """Answers as an MLflow that knows no such address."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"<h1>Not Found</h1>")

    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture
def older_mlflow() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Older)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_without_such_a_registry_is_a_stated_error(older_mlflow: str) -> None:
    with pytest.raises(RegistryError, match="listing the MCP server failed") as caught:
        list_mcp_server(Registry(older_mlflow, name="acme"), "https://deltadex.example/mcp", version="0.1.0")
    assert not caught.value.retryable
