"""A patched process says so, to those who may look: ``gzmqsource doctor --pid``.

Each patch leaves a file in memory, which has a name in ``/proc/PID/fd`` and ends with the process.
It needs no thread, no signal, and nothing of a hub, which may be blocked. A forked child, which is
patched, too, inherits it; a new program does not.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

_PREFIX = "gzmqsource-patch-"


def publish(module: str, left: list[str]) -> None:
    """Leave word that a module is patched, and what was left as it was."""
    if not hasattr(os, "memfd_create"):
        return
    with contextlib.suppress(OSError):  # no descriptor is left, or a sandbox forbids the call
        descriptor = os.memfd_create(f"{_PREFIX}{module}")
        os.write(descriptor, json.dumps(left).encode())


def patches(pid: int) -> dict[str, list[str]]:
    """Return which modules are patched in a process, each with what was left as it was.

    Raises
    ------
    OSError
        There is no such process, or it is another user's.
    """
    found = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            name = os.readlink(descriptor).removeprefix("/memfd:").removesuffix(" (deleted)")
            if name.startswith(_PREFIX):
                found[name.removeprefix(_PREFIX)] = json.loads(descriptor.read_text())
    return found


def has_pyzmq(pid: int) -> bool:
    """Return whether a process has loaded pyzmq; raise as `patches`."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return "/zmq/backend/" in maps
