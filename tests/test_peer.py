"""Programs at the other end of a connection."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing

import pytest

from deltadex.peer import is_own_program

_CONNECT = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0)) if sys.argv[2] == "proxy" else None
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.recv(1)
"""


@pytest.mark.parametrize(("kind", "is_own"), [("browser", True), ("proxy", False)])
def test_a_program_that_serves_others_is_not_a_browser(kind: str, is_own: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = subprocess.Popen([sys.executable, "-I", "-c", _CONNECT, str(port), kind])
        try:
            connection, (_, peer_port) = server.accept()
            with closing(connection):
                assert is_own_program(peer_port) is is_own
        finally:
            client.kill()
            client.wait()


@pytest.mark.skipif("__import__('os').getuid() != 0", reason="only root may start a program as another user")
def test_a_program_of_another_user_is_not_ones_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = subprocess.Popen(
            ["/usr/bin/env", "python3", "-I", "-c", _CONNECT, str(port), "browser"], user="nobody", group="nogroup",
            cwd="/", env={"PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        try:
            connection, (_, peer_port) = server.accept()
            with closing(connection):
                assert not is_own_program(peer_port)
        finally:
            client.kill()
            client.wait()


def test_a_port_that_nothing_connects_from_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_own_program(server.getsockname()[1])
