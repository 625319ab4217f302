"""Waiting without a socket, and what greenlets share with native threads and forked children."""

import os
import sys

# On a free-threaded CPython its extensions turn the GIL on, which is what all here relies on.
import gevent.event  # noqa: F401

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("gevent and gzmqsource need the GIL: leave out PYTHON_GIL=0 and -X gil=0")
if not hasattr(os, "register_at_fork"):
    raise ImportError("gzmqsource needs Linux or macOS; on Windows use WSL")
