"""Frames that pyzmq has lent to libzmq, at the end of the interpreter."""

from __future__ import annotations

import atexit
import functools


@functools.cache
def keep_lent_at_exit() -> None:
    """Keep the frames that are lent at the end of the interpreter until the process ends.

    pyzmq's collector would forget all buffers, which libzmq's threads still read.
    """
    from zmq.utils.garbage import gc  # takes its locks from the modules as patched by then

    # The thread of the collector, which refers to it, never returns to an interpreter that ends.
    atexit.unregister(gc._atexit)
    atexit.register(setattr, gc, "_stay_down", True)  # an idle one is not started any more
