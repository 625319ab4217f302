"""Waiting without a socket, and what greenlets share with native threads and forked children."""

import os
import sys

# On a free-threaded CPython its extensions turn the GIL on, which is what all here relies on.
import gevent.event  # noqa: F401
import zmq

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("gevent and gzmqsource need the GIL: leave out PYTHON_GIL=0 and -X gil=0")
if not hasattr(os, "register_at_fork"):
    raise ImportError("gzmqsource needs Linux or macOS; on Windows use WSL")
# What is installed need not be what pip would have: 24's shadows let the socket go, for one.
if zmq.pyzmq_version_info() < (25,):
    raise ImportError(
        f"gzmqsource needs pyzmq 25.0 or newer, and this is {zmq.pyzmq_version()}: "
        "pip install --upgrade pyzmq"
    )
