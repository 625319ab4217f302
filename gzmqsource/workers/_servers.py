"""The servers of a requester: a connection to each address of each endpoint."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

import zmq

from gzmqsource._base.warning import LimitedWarning
from gzmqsource.workers._bound import BoundLink
from gzmqsource.workers._connection import AnyLink, Connection
from gzmqsource.workers._dispatcher import Dispatcher
from gzmqsource.workers._link import Link, Opening
from gzmqsource.workers._targets import Resolve, Targets

_warn_unusable = LimitedWarning(
    logging.getLogger("gzmqsource.workers"), "an address cannot be used: %s"
)


class Servers:
    """Makes connections, and gives up those whose addresses are gone.

    Parameters
    ----------
    dispatcher : Dispatcher
        It uses the connections.
    opening : Opening
        Makes the sockets.
    patience : float
        Seconds for an attempt to connect, see `Link`.
    resolve, every, ipv6
        As for `Targets`.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        opening: Opening,
        patience: float,
        resolve: Resolve | None,
        every: float,
        ipv6: bool,
    ) -> None:
        self._dispatcher = dispatcher
        self._opening = opening
        self._patience = patience
        self._connections: dict[str, dict[str, Connection]] = {}
        self._targets = Targets(resolve, every, ipv6, self._found)
        self._closed = False
        opening.pace.has_live = dispatcher.balance.__len__
        dispatcher.on_none = opening.pace.hurry
        dispatcher.on_loss = self._targets.look_soon

    @property
    def names(self) -> str:
        """The endpoints that the user has passed, or the first ones, as a text."""
        names = list(self._connections)
        return ", ".join([*names[:3], "..."] if len(names) > 3 else names)

    def bind(self, endpoint: str) -> None:
        """Let servers connect to an endpoint.

        Raises
        ------
        zmq.ZMQError
            libzmq refuses it, or an option of the socket.
        """
        self._add(endpoint, endpoint, functools.partial(BoundLink, endpoint, self._opening))

    def connect(self, endpoint: str) -> None:
        """Connect to the servers for which an endpoint stands; errors are those of `bind`."""
        self._connections.setdefault(endpoint, {})
        self._targets.add(endpoint)

    def close(self, linger: int | None) -> None:
        """Close all connections."""
        self._closed = True
        self._targets.close()
        for connection in list(self._dispatcher.connections):
            connection.close(linger)

    def _found(self, endpoint: str, addresses: Sequence[str]) -> None:
        """Use the addresses for which an endpoint stands, and no others."""
        if self._closed:
            return
        known = self._connections[endpoint]
        for address in addresses:
            if address in known:
                continue
            link = functools.partial(Link, address, self._opening, patience=self._patience)
            try:
                self._add(endpoint, address, link)
            except zmq.ZMQError as error:
                if address == endpoint:
                    raise
                _warn_unusable(f"{address} of {endpoint}: {error}")
        for address in known.keys() - set(addresses):
            known[address].retire()
            del known[address]

    def _add(self, endpoint: str, address: str, link: Callable[..., AnyLink]) -> None:
        def make(connection: Connection) -> AnyLink:
            return link(owner=connection)

        connection = Connection(endpoint, address, self._dispatcher, make)
        self._dispatcher.connections[connection] = None
        try:
            connection.start()
            self._connections.setdefault(endpoint, {})[address] = connection
        except BaseException:
            connection.close(0)
            raise
