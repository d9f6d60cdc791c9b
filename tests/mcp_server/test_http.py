"""The server over streamable HTTP: who asks, from where, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import httpx2
import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.requests import HTTPConnection

from deltadex.access import HIDDEN
from deltadex.errors import AccessDenied, SettingsError
from deltadex.mcp_server import http
from deltadex.mcp_server.identity import PROXY_SECRET_HEADER, Identification
from deltadex.mcp_server.server import RegistryTools, build_server
from deltadex.setting_groups import AccessSettings, McpSettings
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.conftest import unused_port
from tests.ingest.test_watcher import wait_for

ANN, EVE = "a" * 40, "e" * 40
SECRET = "s" * 40


@contextmanager
def serving(settings: Settings, database: Database) -> Iterator[str]:
    """Serve in a thread; yield the address."""
    listening = settings.mcp.model_copy(update={"port": unused_port()})
    server = build_server(RegistryTools(settings, database, http.person_of))
    app = http.web_app(server, Identification(settings), listening)
    config = uvicorn.Config(app, host="127.0.0.1", port=listening.port, log_level="warning", ws="none")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listening.port}{http.PATH}"
    running.should_exit = True
    thread.join()


def neighbors(url: str, **headers: str) -> list[str]:
    """Ask by the SDK's client; return the neighbours of a version that two of three people may see."""

    async def run() -> list[str]:
        async with (
            httpx2.AsyncClient(headers=headers) as client,
            Client(streamable_http_client(url, http_client=client)) as asking,
        ):
            result = await asking.call_tool("neighbors", {"version": "legal-drafter/3"})
            assert not result.is_error, result.content
            return [one["model"]["version"] for one in result.structured_content["neighbors"]]

    return asyncio.run(run())


def posted(url: str, **headers: str) -> httpx.Response:
    """Send the first message of a client."""
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
        },
    }  # fmt: skip
    accepted = {"Accept": "application/json, text/event-stream"}
    return httpx.post(url, json=body, headers={**accepted, **headers}, trust_env=False)


@pytest.fixture
def with_people(settings: Settings, tmp_path: Path) -> Settings:
    """An access file, tokens of two people, and a proxy."""
    (tmp_path / "people.json").write_text(
        json.dumps(
            {
                "people": {
                    "ann": {"role": "viewer"},
                    "eve": {"role": "viewer", "models": ["legal-*"]},
                    "https://issuer#7": {"role": "viewer", "models": ["legal-*"]},
                }
            }
        )
    )
    digests = {hashlib.sha256(token.encode()).hexdigest(): name for token, name in ((ANN, "ann"), (EVE, "eve"))}
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": {**digests, hash_of("z" * 40): "nobody"}}))
    mcp = McpSettings(tokens_file=tmp_path / "tokens.json", user_header="X-Forwarded-Email", proxy_secret=SECRET)
    access = AccessSettings(file=tmp_path / "people.json")
    return settings.model_copy(update={"mcp": mcp, "access": access})


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def test_each_request_is_answered_as_the_person_of_its_token_or_proxy(
    with_people: Settings, database: Database, tmp_path: Path
) -> None:
    with serving(with_people, database) as url:
        everything, masked = ["contract-drafter/2", "sql-writer/2", "sql-writer/1"], [HIDDEN] * 3
        assert neighbors(url, Authorization=f"Bearer {ANN}") == everything
        assert neighbors(url, Authorization=f"Bearer {EVE}") == masked
        by_proxy = {"X-Forwarded-Email": "eve", PROXY_SECRET_HEADER: SECRET}
        assert neighbors(url, **by_proxy) == masked
        for headers in (
            {}, {"Authorization": "Bearer " + "b" * 40}, {"Authorization": "Bearer " + "z" * 40},
            {"Authorization": ANN}, {"X-Forwarded-Email": "ann"}, {**by_proxy, PROXY_SECRET_HEADER: "no"},
            {PROXY_SECRET_HEADER: SECRET}, {**by_proxy, "X-Forwarded-Email": ""},
        ):  # fmt: skip
            refused = posted(url, **headers)
            assert (refused.status_code, refused.json()) == (401, {"error": "unauthorized"}), headers
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        (tmp_path / "tokens.json").write_text('{"tokens": {}}')
        assert posted(url, Authorization=f"Bearer {ANN}").status_code == 401, "a token that is struck out ends at once"


def test_an_empty_name_and_an_unverified_address_are_no_names_without_an_access_file() -> None:
    mcp = McpSettings(
        user_header="X-User", proxy_secret=SECRET, issuer="https://issuer", audience="a", jwks_url="https://issuer/keys"
    )
    identification = Identification(Settings(mcp=mcp))
    headers = [(b"x-user", b" "), (PROXY_SECRET_HEADER.lower().encode(), SECRET.encode())]
    with pytest.raises(AccessDenied):
        identification.person(HTTPConnection({"type": "http", "headers": headers}))
    claims = {"iss": "https://issuer", "sub": "8", "email": "ann@x"}
    assert identification._of_claims(claims).name == "https://issuer#8"
    assert identification._of_claims({**claims, "email_verified": True}).name == "ann@x"


def test_pages_elsewhere_do_not_reach_it_by_a_browser(with_people: Settings, database: Database) -> None:
    known = {"Authorization": f"Bearer {ANN}"}
    with serving(with_people, database) as url:
        assert posted(url, **known).status_code == 200
        assert posted(url, **known, Host="evil.example").status_code == 421
        assert posted(url, **known, Origin="https://evil.example").status_code == 403
        large = httpx.post(url, content=b"x" * 2_000_000, headers={**known, "Content-Type": "application/json"})
        assert large.status_code == 413


def test_without_a_login_only_this_machines_user_is_answered(settings: Settings, database: Database) -> None:
    with serving(settings, database) as url:
        # This process listens itself, as a proxy does: it may pass on anybody's request.
        assert posted(url).status_code == 401
        assert posted(url, **{"X-Forwarded-For": "10.0.0.7"}).status_code == 401
        assert asked_by_a_program(url) == "200"


def test_the_command_serves_this_machine_and_refuses_to_serve_others(settings: Settings) -> None:
    port = unused_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DELTADEX_")}
    own = {
        "DELTADEX_DATABASE__URL": settings.database_url, "DELTADEX_REGISTRY": settings.registry,
        "DELTADEX_DATA_DIR": str(settings.data_dir),
    }  # fmt: skip
    command = [sys.executable, "-m", "deltadex", "mcp", "--transport", "http", "--port", str(port)]
    refused = subprocess.run([*command, "--host", "0.0.0.0"], env=clean | own, capture_output=True, check=False)  # noqa: S104
    assert (refused.returncode, b"reached from elsewhere" in refused.stderr) == (1, True)
    server = subprocess.Popen(command, env=clean | own)
    try:
        wait_for(lambda: is_listening(port), 60)
        assert asked_by_a_program(f"http://127.0.0.1:{port}{http.PATH}") == "200"
    finally:
        server.terminate()
        assert server.wait(30) in (0, -signal.SIGTERM)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def asked_by_a_program(url: str) -> str:
    code = (
        "import sys, httpx; body = {'jsonrpc': '2.0', 'id': 1, 'method': 'tools/list'};"
        "print(httpx.post(sys.argv[1], json=body, trust_env=False, headers={"
        "'Accept': 'application/json, text/event-stream'}).status_code)"
    )
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_it_refuses_to_listen_elsewhere_without_a_login(settings: Settings, database: Database) -> None:
    server = build_server(RegistryTools(settings, database, http.person_of))
    for host in ("0.0.0.0", "::", "10.0.0.1", "host.example"):  # noqa: S104
        with pytest.raises(SettingsError, match="reached from elsewhere"):
            http.web_app(server, Identification(settings), McpSettings(host=host))


@pytest.mark.parametrize("values", [{"issuer": "https://issuer"}, {"user_header": "X-User"}, {"tokens_file": "/none"}])
def test_half_a_login_is_refused(settings: Settings, values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Identification(settings.model_copy(update={"mcp": McpSettings.model_validate(values)}))


class _Keys(BaseHTTPRequestHandler):
    keys: dict[str, Any]

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(self.keys).encode())

    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture
def issuer() -> Iterator[tuple[str, rsa.RSAPrivateKey]]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    handler = type("Keys", (_Keys,), {"keys": {"keys": [{**public, "kid": "k", "use": "sig", "alg": "RS256"}]}})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/keys", key
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_token_of_the_companys_login_is_its_person_if_all_of_it_is_right(
    with_people: Settings, database: Database, issuer: tuple[str, rsa.RSAPrivateKey]
) -> None:
    keys, key = issuer
    mcp = McpSettings(issuer="https://issuer", audience="deltadex", jwks_url=keys)
    right = {
        "iss": "https://issuer", "aud": "deltadex", "sub": "7", "exp": int(time.time()) + 60,
        "email": "eve@x", "email_verified": True,
    }  # fmt: skip

    def header(key: Any = key, algorithm: str = "RS256", name: str = "k", **changes: Any) -> dict[str, str]:
        claims = {name: value for name, value in {**right, **changes}.items() if value is not None}
        return {"Authorization": "Bearer " + jwt.encode(claims, key, algorithm=algorithm, headers={"kid": name})}

    with serving(with_people.model_copy(update={"mcp": mcp}), database) as url:
        assert neighbors(url, **header()) == [HIDDEN] * 3
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        for wrong in (
            header(aud="another"), header(iss="https://evil"), header(exp=int(time.time()) - 60), header(sub=None),
            header(sub="8"), header(other), header(name="unknown"), header("k" * 40, "HS256"), header(None, "none"),
        ):  # fmt: skip
            assert posted(url, **wrong).status_code == 401
    away = mcp.model_copy(update={"jwks_url": "http://127.0.0.1:9/keys"})
    with serving(with_people.model_copy(update={"mcp": away}), database) as url:
        assert posted(url, **header()).status_code == 503, "no login is wrong: the keys can't be read"
