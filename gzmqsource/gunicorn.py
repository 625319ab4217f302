"""A gunicorn worker class for applications that use ZeroMQ: ``-k gzmqsource.gunicorn.Worker``."""

from __future__ import annotations

from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]

from gzmqsource.monkey import patch_zmq

__all__ = ["Worker"]


class Worker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker, with zmq patched before the application is loaded."""

    def patch(self) -> None:
        """Patch as gevent's worker does, and zmq; gunicorn calls this in each process."""
        super().patch()
        patch_zmq()
