"""Ports on loopback: the preferred one, or a free one where it is taken."""

from __future__ import annotations

import socket


def free_port(preferred: int) -> int:
    """Return `preferred` if nothing listens there, else a port that the system gives."""
    for candidate in (preferred, 0):
        with socket.socket() as probe:
            # As servers do: a port whose last owner has just gone is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
