"""Frames that pyzmq has lent to libzmq, at the end of the interpreter."""

from __future__ import annotations

import atexit
import functools


@functools.cache
def keep_lent_at_exit() -> None:
    """Have what is lent at the end of the interpreter stay as it is until that of the process.

    pyzmq's collector would forget all buffers, which libzmq's threads still read.
    """
    from zmq.utils.garbage import gc  # takes its locks from what is patched by then

    # The thread of the collector, which refers to it, never returns to an interpreter that ends.
    atexit.unregister(gc._atexit)
    atexit.register(setattr, gc, "_stay_down", True)  # one that does not run starts no more
