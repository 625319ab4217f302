"""Waiting without a socket, and state shared by greenlets, native threads and forked children."""

import os
import sys

# On a free-threaded CPython its extensions turn the GIL on, on which all code here relies.
import gevent.event  # noqa: F401
import zmq

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("gevent and gzmqsource need the GIL: leave out PYTHON_GIL=0 and -X gil=0")
if not hasattr(os, "register_at_fork"):
    raise ImportError("gzmqsource needs Linux or macOS; on Windows use WSL")
# The installed pyzmq may be older than pip would allow: shadows in 24, for one, drop the socket.
if zmq.pyzmq_version_info() < (25,):
    raise ImportError(
        f"gzmqsource needs pyzmq 25.0 or newer, and this is {zmq.pyzmq_version()}: "
        "pip install --upgrade pyzmq"
    )
