"""Monitors that end before, with and after their sockets."""

from __future__ import annotations

import itertools

import gevent
import zmq
from helpers import endpoint_of

from chaos.counting import fault
from chaos.traffic import held, pass_all
from gzmqsource import Source
from gzmqsource.monitor import Monitor
from gzmqsource.testing import no_leaks


def closed(monitor):
    return monitor.close


def dropped(monitor):
    return [monitor].clear


def killed(monitor):
    reading = gevent.spawn(list, monitor)
    gevent.sleep(0)
    return reading.kill


def orders(monitor, socket):
    """Return the orders in which both are ended."""
    return (
        [monitor, socket],
        [socket, monitor],
        [lambda: gevent.joinall([gevent.spawn(socket), gevent.spawn(monitor)])],
        [socket, lambda: gevent.sleep(0.01), monitor],
    )


def end_in_every_way(endpoint):
    for end in (closed, dropped, killed):
        for order, linger in itertools.product(range(4), (0, -1)):
            watched = Source.open(zmq.PUSH, connect=endpoint, linger=linger)
            monitor = end(Monitor(watched))
            watched.send(b"x")
            for step in orders(monitor, watched.close)[order]:
                step()
            gevent.sleep(0)


@fault("monitors end before, with and after their sockets, in every way")
def _(tally):
    sink = Source.open(zmq.PULL, lambda message: None, bind="tcp://127.0.0.1:*")
    sink.start()
    with held(sink), no_leaks():
        ending = gevent.spawn(end_in_every_way, endpoint_of(sink))
        pass_all(tally)
        ending.get(timeout=30)
        pass_all(tally)
