"""A ROUTER with many full peers: of a source, and of the drop-in."""

import contextlib
import select
from typing import Any

import gevent
import zmq
from gevent.monkey import get_original
from helpers import endpoint_of

from gzmqsource import Source, green
from gzmqsource.testing import all_blocked, wait_until

_start_thread = get_original("_thread", "start_new_thread")
_sleep = get_original("time", "sleep")
_epoll = get_original("select", "epoll")

BODY = bytes(2000)

#: How many of a fleet's peers are tried at a time: so few that a small fleet is many.
FEW = 4


class Counted:
    """A transfer that counts how many destinations it is to try, and how many are tried."""

    _own = "offered", "tried", "refused"

    def __init__(self, transfer):
        vars(self)["_transfer"] = transfer
        self.offered = self.tried = 0
        #: What was refused, by errno.
        self.refused = []

    def __getattr__(self, name):
        return getattr(self._transfer, name)

    def __setattr__(self, name, value):
        # The readiness has the transfer itself, and compares what a receive has set.
        if name in self._own:
            super().__setattr__(name, value)
        else:
            setattr(self._transfer, name, value)

    def send_lanes(self, lanes, moved, *limits):
        self.offered += len(lanes)
        tried = self._transfer.send_lanes(lanes, moved, *limits)
        self.tried += tried
        self.refused += [end.errno for _, _, end in moved if isinstance(end, zmq.ZMQError)]
        return tried

    def send_one(self, message):
        self.tried += 1
        return self._transfer.send_one(message)


class Fleet:
    """A ROUTER whose peers are plain sockets."""

    #: The socket in its hub.
    shared: Any

    def __init__(self, context, endpoint, count, **options):
        self.router = self.open(context, endpoint, options)
        buffers = {} if endpoint.startswith("inproc") else {"rcvbuf": 4096}
        self.peers = []
        for index in range(count):
            peer = context.socket(zmq.DEALER)
            peer.linger = 0
            peer.routing_id = self.key(index)
            for name, value in {"rcvhwm": 1, **buffers}.items():
                setattr(peer, name, value)
            peer.connect(endpoint_of(self.router))
            peer.send(b"here")
            self.peers.append(peer)
            self.receive()
        self.many.destinations.few = FEW
        # The pure transfer has to assume the fastest clock that libzmq may have. A round of it over
        # this few peers may be too long for that on a slow machine, and then the clock never ends.
        with contextlib.suppress(ImportError):
            from gzmqsource.transfer.native import NativeTransfer

            self.many._clock = NativeTransfer(self.peers[0]).command_clock

    def open(self, context, endpoint, options) -> Any:
        raise NotImplementedError

    def receive(self) -> None:
        raise NotImplementedError

    def fill(self, index) -> None:
        """Send to a peer until some messages wait."""
        raise NotImplementedError

    @staticmethod
    def key(index):
        return b"peer %d" % index

    @property
    def many(self):
        return self.shared.readiness.many

    @property
    def sent(self):
        return self.shared.transfer.sent

    def fill_all(self):
        """Make all peers full, until nothing moves any more."""
        self.fill_for_good(range(len(self.peers)))

    def fill_for_good(self, indices):
        """Make peers full, until nothing moves any more."""
        sent = None
        while sent != self.sent:
            sent = self.sent
            for index in indices:
                self.fill(index)
            all_blocked()
            wait_until(self.is_silent)

    def is_silent(self):
        """Return whether nothing happens any more but by an edge; all may have been sent."""
        return self.many._timer is None and not self.shared.readiness.look_scheduled

    def move(self, index, after=0.0, meanwhile=lambda: None):
        """Have a thread read what comes to a peer, after some seconds, until one more is sent."""
        sent = self.sent
        over: list[bool] = []
        ended: list[bool] = []

        def read():
            _sleep(after)
            while not over:
                try:
                    self.peers[index].recv(zmq.NOBLOCK)
                except zmq.Again:
                    _sleep(0.001)
            ended.append(True)

        _start_thread(read, ())
        try:
            meanwhile()
            wait_until(lambda: self.sent > sent)
        finally:
            over.append(True)
            wait_until(lambda: ended)

    def count(self):
        """Count from now on what is tried."""
        counted = self.shared.transfer = Counted(self.shared.transfer)
        return counted

    def close(self):
        self.router.close()
        for peer in self.peers:
            peer.close()


class SourceFleet(Fleet):
    """The ROUTER is a source's."""

    def open(self, context, endpoint, options):
        options |= {"router_mandatory": 1, "sndhwm": 1, "linger": 0}
        if not endpoint.startswith("inproc"):
            options["sndbuf"] = 4096
        router = Source.open(zmq.ROUTER, bind=endpoint, context=context, **options)
        self.shared = router._core.socket
        return router

    def receive(self):
        self.router.recv(timeout=10)

    def fill(self, index):
        outbox = self.router._core.outbox
        while self.queued(index) < min(20, outbox.maxsize):
            self.router.send([self.key(index), BODY])

    def queued(self, index):
        lane = self.router._core.outbox.lanes.get(self.key(index))
        return 0 if lane is None else len(lane.queue)


class GreenFleet(Fleet):
    """The ROUTER is the drop-in's, with a greenlet for each full peer that waits to send."""

    def open(self, context, endpoint, options):
        self.waiting = {}
        router = green.Context(shadow=context).socket(zmq.ROUTER)
        router.router_mandatory, router.sndhwm, router.linger = 1, 1, 0
        if not endpoint.startswith("inproc"):
            router.sndbuf = 4096
        router.bind(endpoint)
        return router

    @property
    def shared(self) -> Any:
        return self.router._shared

    def receive(self):
        self.router.recv_multipart()

    def fill(self, index):
        if index not in self.waiting or self.waiting[index].dead:
            self.waiting[index] = gevent.spawn(self._send, index)
            gevent.sleep(0)

    def _send(self, index):
        while True:
            self.router.send_multipart([self.key(index), BODY])

    def close(self):
        gevent.killall(list(self.waiting.values()))
        super().close()


@contextlib.contextmanager
def edges_eaten(fd):
    """Yield a function that returns whether the descriptor was read since it was called last.

    An eventfd becomes writable once more when it is read, and epoll reports that as an edge.
    """
    with contextlib.closing(_epoll()) as epoll:
        epoll.register(fd, select.EPOLLOUT | select.EPOLLET)
        epoll.poll(0)
        yield lambda: bool(epoll.poll(0))
