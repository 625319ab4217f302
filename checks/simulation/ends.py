"""The end of a closed socket, which no native thread reports here."""

import itertools

import zmq
from zmq.sugar.socket import Socket

from gzmqsource._base.deadline import Deadline
from gzmqsource._socket.hub_socket import HubSocket

_serial = itertools.count()


class End:
    """A `gzmqsource._socket.reports.Report` of a simulated socket, read in its hub."""

    def __init__(self, hub, socket, events, most):
        self.released = self
        self._pair = socket.context.socket(zmq.PAIR)
        try:
            address = f"inproc://end-{next(_serial)}"
            self._pair.connect(address)
            Socket.monitor(socket, address, events)
        except BaseException:
            self._pair.close()
            raise
        self._waited_for = HubSocket(self._pair)
        self._pair.close = self._let_go  # `zmq.Context.destroy` calls it

    def wait(self, timeout):
        """Wait until the socket is gone, and release what this takes."""
        deadline = Deadline(timeout)
        try:
            while self._waited_for.transfer.events():
                if not self._waited_for.wait_readable(deadline.left()):
                    break
        except zmq.ZMQError:
            pass  # the context has ended
        finally:
            self._let_go()

    def _let_go(self, linger=None):
        self._waited_for.release(lambda: Socket.close(self._pair, linger))
