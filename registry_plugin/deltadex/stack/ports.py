"""Choice of ports on loopback."""

from __future__ import annotations

import socket


def free_port(preferred: int) -> int:
    """Return `preferred` if it is free, else a free port chosen by the system."""
    for candidate in (preferred, 0):
        if _is_taken(candidate):
            continue
        with socket.socket() as probe:
            # Servers set this too: a port in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _is_taken(port: int) -> bool:
    """Return whether a server accepts connections on this port.

    Binding is no proof on macOS: it succeeds on 127.0.0.1 if another server holds the port on all addresses, as AirPlay
    does with 5000.
    """
    if port == 0:
        return False
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
