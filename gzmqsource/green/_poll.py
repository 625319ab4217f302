"""`Poller`, `zmq_poll` and `select`: waiting for any of several sockets and descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import zmq
from zmq.backend import zmq_poll as plain_poll
from zmq.sugar.poll import Poller as PlainPoller
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.deadline import check_poll_timeout
from gzmqsource.errors import InvalidThreadUseError
from gzmqsource.green._poll_set import PollSet
from gzmqsource.green._polling import Events, Polling
from gzmqsource.green._shared import recheck

_POLLIN, _POLLOUT, _POLLERR = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.POLLERR)


def zmq_poll(sockets: Sequence[tuple[Any, int]], timeout: int | float | None = -1) -> Events:
    """Wait until a socket is ready; see ``zmq.zmq_poll``.

    If the greenlet is killed meanwhile, no event is lost.

    Parameters
    ----------
    sockets : sequence of tuple
        Pairs of a zmq socket, plain or green, a file descriptor, or an object with a ``fileno``,
        and a mask of ``zmq.POLLIN``, ``POLLOUT`` and ``POLLERR``.
    timeout : int
        Milliseconds; -1 waits forever.

    Returns
    -------
    list of tuple
        Pairs of a socket that is ready, and the mask of its events.

    Raises
    ------
    zmq.ZMQError
        A socket is closed, or its context was terminated.
    InvalidThreadUseError
        Greenlets of another thread's hub wait on one of the sockets.
    """
    if isinstance(timeout, Real) and -1 < timeout < 0:
        timeout = 0  # in pyzmq it becomes an integer
    return _Entries(sockets).poll(check_poll_timeout(timeout, 1000))


def select(
    rlist: Sequence[Any], wlist: Sequence[Any], xlist: Sequence[Any], timeout: float | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Wait as `select.select` does, for zmq sockets, too.

    Parameters
    ----------
    rlist : sequence
        Sockets and file descriptors to wait for until they are readable.
    wlist : sequence
        The same until they are writable.
    xlist : sequence
        The same until they have an error.
    timeout : float or None
        Seconds to wait at most; None waits forever.

    Returns
    -------
    tuple of list
        Those that are readable, writable, and in error.

    Raises
    ------
    zmq.ZMQError, InvalidThreadUseError
        As for `zmq_poll`.
    """
    masks: dict[Any, int] = {}
    for sockets, mask in ((rlist, _POLLIN), (wlist, _POLLOUT), (xlist, _POLLERR)):
        for socket in sockets:
            masks[socket] = masks.get(socket, 0) | mask
    if isinstance(timeout, float) and -0.001 < timeout < 0:
        timeout = 0  # as in pyzmq, which first converts to whole milliseconds
    events = _Entries(list(masks.items())).poll(check_poll_timeout(timeout, 1))
    readable, writable, failed = (
        [socket for socket, ready in events if ready & mask]
        for mask in (_POLLIN, _POLLOUT, _POLLERR)
    )
    return readable, writable, failed


class Poller(PlainPoller):
    """A `zmq.Poller` whose `poll` lets other greenlets run; several greenlets may poll at once.

    With many sockets it costs no more than with few, as long as few of them are busy.

    Changes by `register`, ``modify`` and `unregister` apply at once to greenlets that wait. If no
    socket is left, they wait for later ones. Unregister a descriptor before it is closed: its
    number may be used again.
    """

    __module__ = "gzmqsource.green"

    _made: PollSet | None = None

    def register(self, socket: Any, flags: int = int(zmq.POLLIN | zmq.POLLOUT)) -> None:
        """Add a socket, or change its events; see `zmq.Poller.register`.

        Parameters
        ----------
        socket : zmq.Socket, int or object
            The socket to poll: a socket, a file descriptor, or an object with a ``fileno``.
        flags : int
            The events to poll for.

        Raises
        ------
        InvalidThreadUseError
            Greenlets of another thread's hub wait on the socket or this poller. It is unchanged.
        """
        made = self._usable()
        if flags and made is not None:
            made.put(socket, flags)
        super().register(socket, flags)

    def unregister(self, socket: Any) -> None:
        """Remove a socket; see `zmq.Poller.unregister`.

        Parameters
        ----------
        socket : zmq.Socket, int or object
            The socket that was registered.

        Raises
        ------
        KeyError
            It was not registered.
        InvalidThreadUseError
            Greenlets of another thread's hub wait on this poller.
        """
        made = self._usable()
        super().unregister(socket)
        if made is not None:
            made.remove(socket)

    def poll(self, timeout: int | float | None = None) -> Events:
        """Wait until a socket is ready; see `zmq.Poller.poll`.

        If the greenlet is killed meanwhile, no event is lost.

        Parameters
        ----------
        timeout : int or None
            Milliseconds to wait at most; None or a negative number waits forever.

        Returns
        -------
        list of tuple
            Pairs of a socket that is ready, and the mask of its events; empty after the time, and
            at once if nothing is registered, as with pyzmq.

        Raises
        ------
        zmq.ZMQError, InvalidThreadUseError
            As for `zmq_poll`.
        """
        made = self._usable()
        if made is not None and not made.is_valid:
            self._forget()
            made = None
        if made is None:
            made = self._made = PollSet(self.sockets)
        return made.poll(check_poll_timeout(timeout, 1000))

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes a set of its own: the end of one would be the end of the other.
        return {name: value for name, value in vars(self).items() if name != "_made"}

    def _usable(self) -> PollSet | None:
        """Return the set of the current hub, if one was made."""
        made = self._made
        if made is None or made.is_here:
            return made
        if made.is_waiting:
            raise InvalidThreadUseError(
                f"greenlets of another thread's hub wait on {self!r}: "
                "a poller is used by one thread at a time"
            )
        self._forget()
        return None

    def _forget(self) -> None:
        if self._made is not None:
            self._made.close()
            self._made = None

    def __del__(self) -> None:
        self._forget()


class _Entries(Polling):
    """The sockets of one `zmq_poll`: the answer is pyzmq's own, and only the wait is not."""

    _set: PollSet | None = None

    def __init__(self, entries: Sequence[tuple[Any, int]]) -> None:
        self._entries = entries

    def wait(self, timeout: float | None, again: bool) -> None:
        """See `Polling.wait`."""
        if self._set is None:
            masks: dict[Any, int] = {}
            for entry, mask in self._entries:
                key = entry if isinstance(entry, (PlainSocket, int)) else int(entry.fileno())
                masks[key] = masks.get(key, 0) | mask
            self._set = PollSet(masks.items())
        # A socket in two entries was read twice, and the second time may have consumed events that
        # the first did not see. The set reads it once, for both.
        if not self._set.look():
            self._set.wait(timeout, again)

    def rest(self) -> None:
        """Stop what `wait` has started."""
        if self._set is not None:
            self._set.close()

    def look(self) -> Events:
        """See `Polling.look`."""
        for socket, _ in self._entries:
            if isinstance(socket, PlainSocket):
                if socket._closed:
                    raise zmq.ZMQError(zmq.ENOTSOCK)  # pyzmq would poll the descriptor 0
                recheck(socket)
        events: Events = plain_poll(self._entries, 0)
        return events

    def look_again(self, events: Events) -> Events:
        """See `Polling.look_again`."""
        return _Entries(events).look()

    @property
    def _is_empty(self) -> bool:
        return not self._entries
