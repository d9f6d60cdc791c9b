"""Have a flow run done by the warm process (`warm.py`), and end as it ends.

Standard library only: it must start at once.
"""

import json
import os
import signal
import socket
import sys


def main(socket_folder: str) -> int:
    """Return the exit status of the run."""
    folder = os.getcwd()  # noqa: PTH109 - pathlib takes time to import
    connection = socket.socket(socket.AF_UNIX)
    try:
        os.chdir(socket_folder)  # a socket's path has at most 107 bytes
        connection.connect("socket")
    except OSError:  # the warm process is gone
        os.chdir(folder)
        start_engine()
    os.chdir(folder)
    socket.send_fds(connection, [b"\n"], [0, 1, 2])
    request = {"environment": dict(os.environ), "folder": folder}
    connection.sendall(json.dumps(request).encode() + b"\n")
    with connection.makefile("rb") as answers:
        child = int(answers.readline() or 0)
        if not child:  # it ended at this moment
            start_engine()
        # The worker sends it when it stops, and when the run is cancelled.
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
        return int(answers.readline() or 1)  # no status: it was killed


def start_engine() -> None:
    """Become Prefect's engine for this run."""
    os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
