"""The program at the other end of a loopback connection."""

from __future__ import annotations

import os

import psutil


def is_own_program(port: int) -> bool:
    """Return True if this user's own program, which serves no one itself, connects from this local TCP port.

    A reverse proxy on this machine also connects from loopback, and sends any headers it likes. But it runs as another
    user, or it listens for clients of its own. The answer is False if no program is found, as for another container's.
    """
    for process in psutil.process_iter():
        try:
            connections = process.net_connections("tcp") if process.uids().real == os.getuid() else []
        except psutil.Error:  # it ended, or may not be looked at
            continue
        if any(one.raddr and one.laddr.port == port for one in connections):
            return all(one.status != psutil.CONN_LISTEN for one in connections)
    return False
