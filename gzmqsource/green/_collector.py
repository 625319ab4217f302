"""pyzmq's collector of the frames that it has lent to libzmq, where threads are patched."""

from __future__ import annotations

import os
from typing import Any

from gevent.monkey import is_module_patched
from zmq.sugar.context import Context as PlainContext

from gzmqsource._base.oneshot import allocate_lock
from gzmqsource._base.threads import NativeThread


def make_native() -> None:
    """Have the collector run on a native thread, if it would not; call this before it is used.

    For each frame that libzmq is done with, it receives a message. Where threads are patched its
    thread is a greenlet. A kill or timeout that strikes while pyzmq asks whether that is alive
    makes it start another collector, which forgets the buffers that libzmq still reads. And if more
    frames are freed without a switch than its sockets hold, 2,000, the main thread waits for
    itself.
    """
    if not is_module_patched("threading"):
        return
    from zmq.utils import garbage

    if type(garbage.gc) is garbage.GarbageCollector and garbage.gc.thread is None:
        garbage.gc.__class__ = _native_collector(garbage.GarbageCollector)


def _native_collector(plain: type[Any]) -> type[Any]:
    class Collector(plain):  # type: ignore[misc]
        refs: dict[int, Any]
        thread: Any
        pid: int | None
        _context: Any

        @property
        def context(self) -> PlainContext[Any]:
            if self._context is None:
                self._context = PlainContext()
                self._context.sndhwm = self._context.rcvhwm = 0
            made: PlainContext[Any] = self._context
            return made

        @context.setter
        def context(self, context: PlainContext[Any] | None) -> None:
            plain.context.fset(self, context)

        def start(self) -> None:
            if self.thread is not None and self.pid != os.getpid():
                self._clear()  # of the parent process
            self.pid = os.getpid()
            self.refs = {}
            self.thread = _CollectorThread(self)
            self.thread.start()
            self.thread.ready.wait()

    return Collector


class _CollectorThread(NativeThread):
    """What `zmq.utils.garbage.GarbageCollectorThread` is, on a native thread."""

    def __init__(self, collector: Any) -> None:
        super().__init__(self._collect)
        self.gc = collector
        self.pid = os.getpid()
        self.ready = _Ready()

    def _collect(self) -> None:
        from zmq.utils.garbage import GarbageCollectorThread

        # Without a hub: then gevent's events call their links in place, and not by a loop.
        GarbageCollectorThread.run(self)  # type: ignore[arg-type]


class _Ready:
    """A `threading.Event` for one waiting thread, which does not switch."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        self._lock.release()

    def wait(self) -> None:
        self._lock.acquire()
