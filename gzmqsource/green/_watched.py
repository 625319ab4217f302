"""The entries that a poll set watches while a greenlet waits, each with a watcher."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import zmq
from gevent.monkey import get_original

_POLLIN, _POLLOUT, _POLLPRI = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.POLLPRI)

#: libev's number, which gevent passes to any loop.
_READ, _WRITE = 1, 2

try:
    # gevent removes it from `select` when it patches.
    _epoll: Any = get_original("select", "epoll")
except AttributeError:
    _epoll = None


class Watched:
    """A descriptor, and its watcher while a greenlet waits."""

    __slots__ = ("_watcher",)

    #: The descriptor.
    fd: int
    _watcher: Any

    def start(self, io: Callable[[int, int], Any], wake: Callable[[], object]) -> None:
        """Call *wake* from now on whenever a look is worthwhile; *io* is the method of the loop."""
        self._watcher = self._open(io)
        if self._watcher is not None:
            self._watcher.start(wake)

    def stop(self) -> None:
        """Stop watching, so that the descriptor can be closed and its number used again."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def _open(self, io: Callable[[int, int], Any]) -> Any:
        return io(self.fd, _READ)


class Descriptor(Watched):
    """A descriptor, or an object with a ``fileno``, and its mask.

    Parameters
    ----------
    key : int or object with a fileno
        The descriptor or object to poll.
    mask : int
        The events to poll for.
    order : int
        Its place among all entries.
    """

    __slots__ = ("_key", "_rare", "mask", "order")

    def __init__(self, key: Any, mask: int, order: int) -> None:
        self._watcher = None
        self._key = key
        self._rare: Any = None
        self.mask = mask
        self.order = order

    @property
    def fd(self) -> int:  # type: ignore[override]
        """The current descriptor: an object may change it, and pyzmq reads it each time."""
        key = self._key
        return key if isinstance(key, int) else int(key.fileno())

    def stop(self) -> None:
        """Stop watching; see `Watched.stop`."""
        super().stop()
        if self._rare is not None:
            self._rare.close()
            self._rare = None

    def _open(self, io: Callable[[int, int], Any]) -> Any:
        fd = self.fd
        if fd < 0:
            return None  # as for poll(2), there is nothing to wait for
        kind = (_READ if self.mask & _POLLIN else 0) | (_WRITE if self.mask & _POLLOUT else 0)
        if kind and not self.mask & _POLLPRI:
            return io(fd, kind)
        # The loop watches for nothing else, and a watcher for input that is not polled for would
        # never rest. An epoll set is readable by any event.
        if _epoll is not None:
            try:
                self._rare = _epoll()
                self._rare.register(fd, self._rare_events())
            except PermissionError:
                return None  # a plain file is always ready for all that it can be ready for
            except OSError:
                pass  # at the limit of descriptors
            else:
                return io(self._rare.fileno(), _READ)
        return io(fd, kind or _READ)

    def _rare_events(self) -> int:
        native = {
            _POLLIN: select.EPOLLIN,
            _POLLOUT: select.EPOLLOUT,
            _POLLPRI: select.EPOLLPRI,
        }
        return sum(event for ours, event in native.items() if self.mask & ours)
