"""pyzmq's ``ThreadAuthenticator`` on a native thread, also where threads are patched.

It runs an asyncio event loop, which is the running loop of its native thread. In a greenlet it
would be the running loop of all greenlets, and no other ``asyncio.run`` could start.
"""

from __future__ import annotations

import sys
import threading
import types
from typing import Any

from gevent._hub_local import get_hub_if_exists
from zmq.auth import base as auth_base
from zmq.auth import thread as auth_thread

from gzmqsource._base.oneshot import OneShot
from gzmqsource._base.threads import NativeThread
from gzmqsource.green import Context
from gzmqsource.monkey._names import let_see

PlainThread = auth_thread.AuthenticationThread


class AuthenticationThread(PlainThread):
    """The thread of a ``ThreadAuthenticator``; a greenlet that joins it lets others run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.started: Any = OneShot()
        self._native = NativeThread(self._run_natively)

    def start(self) -> None:
        """Start the native thread."""
        self._native.start()

    def is_alive(self) -> bool:
        """Return whether the native thread runs."""
        return self._native.is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Wait in the hub until the native thread has ended."""
        self._native.join(timeout)

    def _run_natively(self) -> None:
        try:
            self.run()
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), self]))
        finally:
            # The patched sockets and selector of the event loop have made a hub for this thread.
            hub = get_hub_if_exists()
            if hub is not None:
                hub.destroy()


def run_natively(zmq: types.ModuleType, plain: types.ModuleType) -> None:
    """Put `AuthenticationThread` in place of pyzmq's, with plain sockets of green contexts."""
    seen = types.ModuleType("zmq")
    vars(seen).update(vars(plain), Context=Context)
    for module in (auth_base, auth_thread):
        let_see(module, zmq, seen)
    auth_thread.AuthenticationThread = AuthenticationThread  # type: ignore[misc]
