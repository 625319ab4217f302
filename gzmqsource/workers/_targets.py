"""The addresses for which the endpoints of a requester stand, looked up repeatedly."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import gevent
import zmq
from gevent import socket
from gevent.pool import Pool

from gzmqsource._base.deadline import checked_positive
from gzmqsource._base.event import Event
from gzmqsource._base.lasting import Lasting
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._socket.addresses import check_endpoint
from gzmqsource._source.handlers import check_callable

#: Called with an endpoint; returns the endpoints for which it stands.
Resolve: TypeAlias = "Callable[[str], Iterable[str]]"

_log = logging.getLogger("gzmqsource.workers")

_warn_unknown = LimitedWarning(_log, "an endpoint was not found: %s")


def is_name(endpoint: str) -> bool:
    """Return whether an endpoint has the name of a host that may stand for several addresses."""
    transport, _, rest = endpoint.partition("://")
    host = rest.rpartition(":")[0]
    if transport != "tcp" or not host or ";" in rest or host.startswith("["):
        return False
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return False
    return True


def addresses_of(endpoint: str, ipv6: bool) -> list[str]:
    """Return an endpoint for each address of its host, found without holding up the hub.

    Raises
    ------
    OSError
        There is no address, or no answer.
    """
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
    found = socket.getaddrinfo(host, int(port), family, socket.SOCK_STREAM)
    hosts = dict.fromkeys(str(address[0]) for *_, address in found)
    return [f"tcp://[{each}]:{port}" if ":" in each else f"tcp://{each}:{port}" for each in hosts]


class Targets:
    """The addresses of some endpoints, looked up repeatedly.

    Parameters
    ----------
    resolve : callable or None
        Finds the endpoints for which one stands; None to look up the name of its host.
    every : float
        Seconds from one look-up to the next.
    ipv6 : bool
        Whether the sockets take IPv6 addresses.
    changed : callable
        ``changed(endpoint, addresses)`` is called after each look-up that has found addresses.
    """

    #: Seconds after which an endpoint that was not found, or was lost, is looked up again.
    min_pause = 1.0

    #: How many endpoints are looked up at once.
    at_once = 10

    def __init__(
        self,
        resolve: Resolve | None,
        every: float,
        ipv6: bool,
        changed: Callable[[str, Sequence[str]], object],
    ) -> None:
        check_callable("resolve", resolve)
        self._resolve = resolve
        self._every = checked_positive("resolve_every", every)
        self._ipv6 = ipv6
        self._changed = changed
        self._endpoints: list[str] = []
        self._missing: set[str] = set()
        self._is_wanted = Event()
        self._runs = Lasting(self._run)

    def add(self, endpoint: str) -> None:
        """Use an endpoint as it is, or the endpoints for which it stands.

        Raises
        ------
        zmq.ZMQError
            It has no port, or one that does not exist.
        """
        if self._resolve is None:
            check_endpoint(endpoint, "connect")
        if self._resolve is None and not is_name(endpoint):
            self._changed(endpoint, [endpoint])
            return
        if self._resolve is None and not endpoint.rpartition(":")[2].isdecimal():
            raise zmq.ZMQError(
                zmq.EINVAL,
                f"cannot connect to {endpoint}: a tcp endpoint ends with a port, as in :5555",
            )
        self._endpoints.append(endpoint)
        self._runs.start()

    def look_soon(self, endpoint: str) -> None:
        """Look up again, because a connection of this endpoint was lost."""
        if endpoint in self._endpoints:
            self._is_wanted.set()

    def close(self) -> None:
        """Stop looking up."""
        self._runs.kill()

    def _run(self) -> None:
        pool = Pool(self.at_once)
        while True:
            self._is_wanted.clear()
            pool.join()
            for endpoint in self._endpoints:
                self._missing.add(endpoint)  # until it is found, whatever ends the look-up
                pool.spawn(self._look_up, endpoint)
            pool.join()
            if not self._missing:
                self._is_wanted.wait(self._every)
            gevent.sleep(min(self.min_pause, self._every))

    def _look_up(self, endpoint: str) -> None:
        try:
            addresses = self._addresses_of(endpoint)
        except (Exception, gevent.Timeout) as error:  # of the user's function, or the resolver
            _warn_unknown(f"{endpoint}: {error}")
            addresses = []
        if addresses:
            try:
                self._changed(endpoint, addresses)
            except zmq.ZMQError as error:
                _warn_unknown(f"{endpoint}: {error}")
            self._missing.discard(endpoint)

    def _addresses_of(self, endpoint: str) -> list[str]:
        stands_for = [endpoint] if self._resolve is None else list(self._resolve(endpoint))
        addresses: dict[str, None] = {}
        for each in stands_for:
            found = addresses_of(each, self._ipv6) if is_name(each) else [each]
            addresses |= dict.fromkeys(found)
        return list(addresses)
