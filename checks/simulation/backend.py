"""The simulated libzmq as a backend of pyzmq: ``PYZMQ_BACKEND=simulation.backend``."""

import os
import select
from typing import Any

import zmq
from zmq.error import ZMQError

from simulation import libzmq
from simulation.pipes import Epoll, mailboxes

# Before the package looks for it: no kernel knows the descriptors of the simulation.
select.epoll = Epoll  # type: ignore[assignment,misc]

PYZMQ_DRAFT_API = False
IPC_PATH_MAX_LEN = 107

#: What a context is made with: its clock, and libzmq's ``max_command_delay`` in seconds.
settings = {"clock": lambda: 0.0, "max_command_delay": 0.001}

_contexts: dict[int, libzmq.Context] = {}
_sockets: dict[int, libzmq.Socket] = {}


class Context:
    #: Declared on the class, for pyzmq takes any other attribute for an option.
    simulated: Any = None
    underlying = 0
    closed = False

    def __init__(self, io_threads=1, shadow=None):
        self.simulated = _contexts[shadow] if shadow else libzmq.Context(**settings)
        self.underlying = id(self.simulated)
        _contexts[self.underlying] = self.simulated

    def get(self, option):
        return 0

    def set(self, option, value):
        """Take no note."""

    def term(self):
        """End it, as another thread does that waits in ``zmq_ctx_term``."""
        self.simulated.end()
        self.closed = True


class Frame:
    bytes = b""
    more = False
    tracker = None

    def __init__(self, data=b"", track=False, copy=None, copy_threshold=None):
        self.bytes = bytes(data)

    def __len__(self):
        return len(self.bytes)

    def __bytes__(self):
        return self.bytes


Message = Frame


class Socket:
    context = None
    simulated: Any = None
    copy_threshold = 0
    _shadow = _closed = False

    def __init__(self, context=None, socket_type=-1, shadow=0, copy_threshold=None):
        self.context = context
        if shadow:
            self._shadow = True
            self.simulated = _sockets[shadow]
        else:
            self.simulated = libzmq.Socket(context.simulated, socket_type)
            _sockets[self.underlying] = self.simulated

    @property
    def underlying(self):
        return id(self.simulated)

    @property
    def closed(self):
        self._closed = self._closed or self.simulated.is_closed
        return self._closed

    def close(self, linger=None):
        if not self._closed:
            self._closed = True
            self.simulated.close()

    def _open(self):
        """Give the simulated socket."""
        if self._closed:
            raise ZMQError(zmq.ENOTSOCK)
        assert not self.simulated.is_closed, "the handle of a closed socket is used"
        return self.simulated

    def bind(self, address):
        self._open().bind(address)

    def unbind(self, address):
        self._open().unbind(address)

    def connect(self, address):
        self._open().connect(address)

    def disconnect(self, address):
        self._open().disconnect(address)

    def monitor(self, address, events):
        assert not events, "libzmq's monitor, which a native thread reads"
        self._open().monitor(address)

    def get(self, option):
        return self._open().get(option)

    def set(self, option, value):
        self._open().set(option, value)

    def send(self, data, flags=0, copy=True, track=False):
        assert flags & zmq.NOBLOCK, "a call that would block the hub"
        self._open().send(data.bytes if isinstance(data, Frame) else bytes(data), flags)

    def recv(self, flags=0, copy=True, track=False):
        assert flags & zmq.NOBLOCK, "a call that would block the hub"
        data, more = self._open().recv(flags)
        if copy:
            return data
        frame = zmq.Frame(data)
        frame.more = bool(more)
        return frame


def forget_sockets():
    """Forget what can be shadowed; no socket may be open."""
    _sockets.clear()
    _contexts.clear()


def zmq_poll(sockets, timeout=-1):
    assert timeout == 0, "a call that would block the hub"
    events = [(socket, _events_of(socket) & mask) for socket, mask in sockets]
    return [(socket, ready) for socket, ready in events if ready]


def _events_of(socket):
    if isinstance(socket, Socket):
        return socket.get(zmq.EVENTS)
    return mailboxes[socket if isinstance(socket, int) else socket.fileno()].events()


def strerror(number):
    return os.strerror(number) if number < 1 << 16 else f"libzmq's error {number}"


def zmq_errno():
    return 0


def zmq_version_info():
    return 4, 3, 5


def has(capability):
    return False


def _unsupported(*_):
    raise ZMQError(zmq.ENOTSUP)


curve_keypair = curve_public = device = proxy = proxy_steerable = monitored_queue = _unsupported
