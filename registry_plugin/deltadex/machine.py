"""Memory, processors and GPUs of this machine, or of the container that limits this process."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_DRIVER_SECONDS = 10


def memory_bytes() -> int:
    """Return the main memory in bytes that this process may use."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [*_read("memory.max"), *_read("memory/memory.limit_in_bytes")]  # version 2, version 1
    return min([machine, *(int(limit) for (limit,) in limits if limit.isdigit())])


def processors() -> int:
    """Return the number of processors that this process may use, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [int(quota) / int(period) for quota, period in _read("cpu.max") if quota.isdigit()]
    return max(1, min([allowed, *map(math.ceil, quotas)]))


@cache
def gpu_bytes() -> int | None:
    """Return the memory of the smallest GPU in bytes; None if there is none, or its driver's program doesn't say.

    Importing torch to ask it would take seconds and hundreds of megabytes.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_DRIVER_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return smallest_of(said)


def smallest_of(said: str) -> int | None:
    """Return the least of the sizes in MiB in the driver's answer, one in a line, in bytes."""
    return min((int(line) << 20 for line in said.split("\n") if line.strip().isdecimal()), default=None)


def _read(name: str) -> Iterator[list[str]]:
    """Yield the words of a limit's file, for this process's control group and each one above it."""
    with suppress(OSError):
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].strip("/")
        folder = _CGROUPS / own
        for group in (folder, *folder.parents):
            if not group.is_relative_to(_CGROUPS):
                return
            with suppress(OSError):
                yield (group / name).read_text().split()
