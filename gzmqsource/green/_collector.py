"""pyzmq's collector of the frames that it has lent to libzmq.

It receives a message for each frame that libzmq has finished with.

Where threads are patched, its thread is a greenlet. A kill or timeout while pyzmq checks whether
that is alive makes pyzmq start another collector, which forgets the buffers that libzmq still
reads. And if more frames are freed without a switch than its sockets hold, 2,000, the main thread
waits for itself. So it runs on a native thread.

Import this once threads are patched: pyzmq's module takes its thread and its locks from there.
"""

from __future__ import annotations

import os
from typing import Any

from zmq.sugar.context import Context as PlainContext
from zmq.utils.garbage import GarbageCollector, GarbageCollectorThread, gc

from gzmqsource._base.oneshot import OneShot
from gzmqsource._base.threads import NativeThread


class Collector(GarbageCollector):
    """A collector on a native thread, with plain sockets that have no bound."""

    refs: dict[int, Any]
    thread: Any
    pid: int | None
    _context: Any

    @property
    def context(self) -> Any:
        """The context of its sockets."""
        if self._context is None:
            self._context = PlainContext()
            self._context.sndhwm = self._context.rcvhwm = 0
        return self._context

    @context.setter
    def context(self, context: Any) -> None:
        GarbageCollector.context.fset(self, context)  # type: ignore[attr-defined]

    def start(self) -> None:
        """Start the thread."""
        if self.thread is not None and self.pid != os.getpid():
            self._clear()  # of the parent process
        self.pid = os.getpid()
        self.refs = {}
        self.thread = _CollectorThread(self)
        self.thread.start()
        self.thread.ready.block()  # without a switch, in which a kill could come


class _CollectorThread(NativeThread):
    """The counterpart of `zmq.utils.garbage.GarbageCollectorThread`, on a native thread."""

    def __init__(self, collector: Collector) -> None:
        # Without a hub there: gevent's events then call their links directly, not in a loop.
        super().__init__(lambda: GarbageCollectorThread.run(self))  # type: ignore[arg-type]
        self.gc = collector
        self.pid = os.getpid()
        self.ready = OneShot()


def make_native() -> None:
    """Have the collector run on a native thread, unless it was used before."""
    if type(gc) is GarbageCollector and gc.thread is None:
        gc.__class__ = Collector
