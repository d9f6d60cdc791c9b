"""A real OpenID provider on loopback, at which a person logs in by a button with their name."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.conftest import unused_port


@contextmanager
def provider(users: Sequence[Mapping[str, object]], seconds: int) -> Iterator[str]:
    """Run a provider that knows some users, and yield its issuer.

    Parameters
    ----------
    users
        Claims of each, with `sub`.
    seconds
        Life of a token.
    """
    port = unused_port()
    argv = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    argv += ["--token-max-age", str(seconds)]
    for user in users:
        argv += ["--user-claims", json.dumps(user)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=2).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
