"""Links between network namespaces that are cut, and slow."""

from __future__ import annotations

import contextlib
import random

import gevent
from gevent import socket
from gevent.server import StreamServer
from helpers import endpoint_of
from namespaces import Star, why_not

from chaos.counting import fault
from chaos.traffic import COUNT, Peer, held, pull, receive_all
from gzmqsource.testing import wait_until


@fault("a link is cut, and healed")
def _(tally):
    if why_not():
        return
    with Star("other") as hosts, contextlib.ExitStack() as stack:
        receiver = Peer(
            stack,
            "receive",
            "bind",
            "tcp://*:*",
            process=lambda *command: hosts.process("middle", *command),
        )
        port = receiver.endpoint.rpartition(":")[2]
        sender = Peer(
            stack,
            "source",
            "connect",
            f"tcp://{hosts.middle_seen_from('other')}:{port}",
            process=lambda *command: hosts.process("other", *command),
        )
        receiver.wait_for(1)
        hosts.cut("other")
        gevent.sleep(0.05)
        hosts.heal("other")
        receiver.wait_for(COUNT)
        wait_until(lambda: sender.has_ended, 30)
        tally.add(COUNT, receiver.numbers)


@fault("a link delivers late, and a few bytes at a time")
def _(tally):
    with held(pull()) as source, contextlib.ExitStack() as stack:
        host, _, port = endpoint_of(source).removeprefix("tcp://").rpartition(":")

        def carry(reading, writing):
            with contextlib.suppress(OSError):
                while part := reading.recv(random.randint(1, 5000)):
                    gevent.sleep(0.001 * random.random())
                    writing.sendall(part)

        def relay(connection, _):
            with socket.create_connection((host, int(port))) as onward:
                back = gevent.spawn(carry, onward, connection)
                carry(connection, onward)
                back.kill()

        server = StreamServer(("127.0.0.1", 0), relay)
        server.start()
        stack.callback(server.stop)
        Peer(stack, "source", "connect", f"tcp://127.0.0.1:{server.server_port}")
        tally.add(COUNT, receive_all(source))
