"""gunicorn's settings for ``gunicorn_app.py``."""

from __future__ import annotations

import os
from typing import Any

bind = os.environ.get("BIND", "127.0.0.1:5558")
workers = 2
# gunicorn's gevent worker, which patches zmq with the rest.
worker_class = "gzmqsource.gunicorn.Worker"
graceful_timeout = 10


def post_worker_init(worker: Any) -> None:
    """Open the sockets in the worker: those of the master do not work after the fork."""
    # Imported here: the master, which reads this file, has not patched anything.
    import gunicorn_app

    gunicorn_app.open_requester()


def worker_exit(server: Any, worker: Any) -> None:
    """Wait for the replies that are outstanding, and disconnect."""
    import gunicorn_app

    gunicorn_app.stop_requester()
