"""Children of a fork server, in real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deltadex.fork_server import socket_address

_SERVER = """
import os, socket, sys
from deltadex.fork_server import ForkServer
listener = socket.socket(fileno=int(sys.argv[1]))
serve = lambda caller: caller.sendall(str(os.getpriority(os.PRIO_PROCESS, 0)).encode())
ForkServer(listener, serve).run(lambda idle_seconds: idle_seconds < 20)
"""
_CALLER = """
import os, socket, sys
os.nice(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect(sys.argv[1])
    print(caller.recv(10).decode())
"""


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux tells who calls")
def test_a_child_gives_way_as_its_caller_does(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket_address(tmp_path) as address:
        listener.bind(address)
        listener.listen()
        descriptor = listener.fileno()
        server = subprocess.Popen([sys.executable, "-c", _SERVER, str(descriptor)], pass_fds=[descriptor])
    try:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        answers = [
            subprocess.check_output([sys.executable, "-c", _CALLER, str(tmp_path / "socket"), str(by)], text=True)
            for by in (7, 0)
        ]
    finally:
        server.terminate()
        server.wait()
    assert [int(answer) for answer in answers] == [min(own + 7, 19), own], "and no other child after it"
