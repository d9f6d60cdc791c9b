"""A process that has imported Prefect and the flows, and forks a child for each flow run.

Importing them takes longer than embedding a small model. `launcher.py` is what the worker starts for each run: it has
the run done here, or starts Prefect's engine itself if this process is gone.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import random
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

from deltadex.engine import shared
from deltadex.fork_server import ForkServer, socket_address
from deltadex.settings import load_settings
from deltadex_flows.entry_points import ENTRY_POINTS, flow_of

_LAUNCHER = Path(__file__).with_name("launcher.py")


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the process for this worker; it ends with it, once its runs are done.

    Parameters
    ----------
    folder
        Folder of its socket, which only this user can open.
    """
    (folder / "socket").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, socket_address(folder) as address:
        listener.bind(address)
        listener.listen()
        command = [sys.executable, "-m", "deltadex_flows.warm", str(listener.fileno())]
        return subprocess.Popen(command, pass_fds=[listener.fileno()])


def command(folder: Path) -> str:
    """Return the command line that runs the flow run of its environment in a child of the process."""
    # -S and -I: the launcher needs nothing but the standard library, and starts at once.
    return shlex.join([sys.executable, "-I", "-S", str(_LAUNCHER), str(folder)])


def _run_flow(caller: socket.socket) -> None:
    """Run Prefect's engine as `python -m prefect.engine` would, with what the launcher sends, and answer the status."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    caller.sendall(b"%d\n" % os.getpid())
    _, descriptors, _, _ = socket.recv_fds(caller, 1, 3)
    with caller.makefile("rb") as lines:
        request = json.loads(lines.readline())
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    random.seed()
    status = 1
    try:
        sys.argv = ["prefect.engine"]
        warnings.filterwarnings("ignore", "'prefect.engine' found in sys.modules", RuntimeWarning)
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        # As at the end of an interpreter, which a fork has none of: Prefect sends its last logs and events then.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        caller.sendall(b"%d\n" % status)


def main(descriptor: str) -> None:
    """Serve launchers on an inherited listening socket while the worker lives."""
    worker = os.getppid()
    import prefect.flow_engine

    import deltadex_flows.scheduler

    for name in ENTRY_POINTS:
        flow_of(name)
    del prefect, deltadex_flows
    gc.collect()
    gc.freeze()
    listener = socket.socket(fileno=int(descriptor))
    # The embedding process opens untrusted files: a launcher's environment has credentials.
    listener.set_inheritable(False)
    settings = load_settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        # Held open, so that the embedding process is there when a run comes, and stays.
        with shared.embedding_process(settings):
            ForkServer(listener, _run_flow).run(lambda _: os.getppid() == worker)
    finally:
        # It would wait minutes for other callers, and delay the end of the worker.
        shared.end_embedding_process(settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
