"""The C program at the other end: built once, then started as a process or as a thread."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import subprocess
import threading
from typing import Any

import zmq
import zmq.backend.cython._zmq as pyzmq_backend

SOURCE = pathlib.Path(__file__).with_name("peer.c")
BUILD = SOURCE.parent.parent / "build" / "benchmarks"


class Result(ctypes.Structure):
    _fields_ = (
        ("seconds", ctypes.c_double),
        ("messages", ctypes.c_long),
        ("checksum", ctypes.c_ulonglong),
        ("delay_50", ctypes.c_double),
        ("delay_99", ctypes.c_double),
        ("delay_max", ctypes.c_double),
    )


def number(frame: int) -> int:
    """Give the byte that fills a frame, as peer.c does."""
    return frame % 13 + 1


def libzmq() -> str:
    """Give the path of the libzmq that pyzmq has loaded."""
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "libzmq" in line}
    return paths.pop() if paths else pyzmq_backend.__file__


def build(kind: str = "program") -> pathlib.Path:
    """Compile peer.c, as a program or as a library, unless that is done."""
    target = BUILD / {"program": "peer", "library": "peer.so"}[kind]
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        shared = ["-shared", "-fPIC"] if kind == "library" else []
        made = target.with_suffix(f".{os.getpid()}")
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", *shared, "-o", made, SOURCE, "-ldl"], check=True)
        made.replace(target)
    return target


class Peer:
    """A role of peer.c that plays in a process, or, with a context, in a thread of this one.

    With ``@`` in front of an endpoint it binds, to any free port if the endpoint says ``*``.
    """

    def __init__(
        self,
        role: str,
        endpoint: str,
        count: int,
        size: int = 32,
        frames: int = 1,
        context: zmq.Context[Any] | None = None,
        nice: int = 0,
        stay: int = -1,
    ) -> None:
        arguments = [libzmq(), role, endpoint, str(count), str(size), str(frames)]
        reading, report = os.pipe() if "@" in endpoint else (-1, -1)
        self._result = Result()
        self._process: subprocess.Popen[str] | None = None
        if context is None:
            command = ["nice", "-n", str(nice), str(build()), *arguments, str(report)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=() if report == -1 else (report,),
            )
            if report != -1:
                os.close(report)
        else:
            encoded = [argument.encode() for argument in arguments[:3]]
            run = ctypes.CDLL(str(build("library"))).peer_run
            self._thread = threading.Thread(
                target=run,
                args=(
                    encoded[0],
                    ctypes.c_void_p(context.underlying),
                    *encoded[1:],
                    ctypes.c_long(count),
                    ctypes.c_long(size),
                    ctypes.c_long(frames),
                    ctypes.c_int(report),
                    ctypes.c_int(stay),
                    ctypes.byref(self._result),
                ),
            )
            self._thread.start()
        #: Where it has bound.
        self.endpoints: list[str] = []
        if reading != -1:
            with open(reading) as line:
                self.endpoints = line.readline().strip().split(",")

    @property
    def pid(self) -> int:
        """The process, if it is one."""
        assert self._process is not None
        return self._process.pid

    def dismiss(self) -> None:
        """Let its STAY end, if it is a process."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None

    def ended(self) -> bool:
        """Whether it has played to its end."""
        if self._process is None:
            return not self._thread.is_alive()
        return self._process.poll() is not None

    def finish(self, timeout: float = 60) -> dict[str, Any]:
        """Wait for its end, and give what it measured."""
        if self._process is None:
            self._thread.join(timeout)
            return {name: getattr(self._result, name) for name, *_ in Result._fields_}
        try:
            output, _ = self._process.communicate(timeout=timeout)
        finally:
            self._process.kill()
        if self._process.returncode:
            raise SystemExit(f"the peer failed with exit status {self._process.returncode}")
        result: dict[str, Any] = json.loads(output)
        return result
