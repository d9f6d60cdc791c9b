"""A process that has imported what its callers need, and forks a child for each of them.

A child that hangs or dies takes no other caller with it. The child of a caller that leaves is killed, whatever it does.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_POLL_MILLISECONDS = 100
#: Process, user and group at the other end of a Unix socket.
_CREDENTIALS = struct.Struct("3i")

log = logging.getLogger(__name__)


class ForkServer:
    """Accepts callers, and forks and kills their children.

    Parameters
    ----------
    listener
        Listening Unix socket.
    serve
        Called in each new child with the caller's connection; the child ends when it returns.
    """

    def __init__(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._serve = serve
        #: Connection and child process of each caller, by file descriptor.
        self._callers: dict[int, tuple[socket.socket, int]] = {}
        self._events = select.poll()
        self._events.register(listener, select.POLLIN)

    def run(self, is_wanted: Callable[[float], bool]) -> None:
        """Serve until there is no caller and the server is not wanted any more.

        Parameters
        ----------
        is_wanted
            Called with the time in seconds since the last caller left, or since the start.
        """
        alone_since = time.monotonic()
        while self._callers or is_wanted(time.monotonic() - alone_since):
            for descriptor, _ in self._events.poll(_POLL_MILLISECONDS):
                if descriptor == self._listener.fileno():
                    self._accept()
                elif descriptor in self._callers:  # hung up
                    os.kill(self._callers[descriptor][1], signal.SIGKILL)
            if self._reap():
                alone_since = time.monotonic()

    def _accept(self) -> None:
        caller, _ = self._listener.accept()
        pid = os.fork()
        if not pid:
            self._be_child(caller)
        self._callers[caller.fileno()] = caller, pid
        self._events.register(caller, 0)  # reports only that the other side hung up

    def _be_child(self, caller: socket.socket) -> None:
        try:
            self._listener.close()
            for other, _ in self._callers.values():
                other.close()
            _take_priority_of(caller)
            self._serve(caller)
        except BaseException:
            log.exception("child failed")
        finally:
            os._exit(0)

    def _reap(self) -> bool:
        """Close the connections of children that have ended, for which their callers wait; True if there are any."""
        ended = set()
        with suppress(ChildProcessError):  # there are no children
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                ended.add(pid)
        descriptors = [descriptor for descriptor, (_, pid) in self._callers.items() if pid in ended]
        for descriptor in descriptors:
            self._events.unregister(descriptor)
            self._callers.pop(descriptor)[0].close()
        return bool(descriptors)


def _take_priority_of(caller: socket.socket) -> None:
    """Give way to others as the caller does: what it has done here would else compete with what it gives way to."""
    if hasattr(socket, "SO_PEERCRED"):
        pid, _, _ = _CREDENTIALS.unpack(caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        with suppress(ProcessLookupError):  # it has ended, or is in another container
            priority = os.getpriority(os.PRIO_PROCESS, pid) if pid else 0
            os.setpriority(os.PRIO_PROCESS, 0, max(priority, os.getpriority(os.PRIO_PROCESS, 0)))


@contextmanager
def socket_address(folder: Path) -> Iterator[str]:
    """Yield the address of a folder's socket: via `/proc` where possible, since a socket path has at most 107 bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        short = Path(f"/proc/self/fd/{descriptor}")
        yield str((short if short.exists() else folder) / "socket")
    finally:
        os.close(descriptor)
