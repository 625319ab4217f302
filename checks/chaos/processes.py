"""Processes that are killed, stopped, and take each other's place."""

from __future__ import annotations

import contextlib
import signal
from functools import partial

import gevent
import zmq
from gevent.queue import Empty
from helpers import endpoint_of

from chaos.counting import fault
from chaos.peer import number_of
from chaos.traffic import COUNT, Peer, held, pull, push, receive_all, send_all
from gzmqsource import Source
from gzmqsource.testing import wait_until


@fault("a receiving process is killed, and another takes its address", promised=False)
def _(tally):
    with contextlib.ExitStack() as stack:
        first = Peer(stack, "receive", "bind", "tcp://127.0.0.1:*")
        with held(push(connect=first.endpoint, reconnect_ivl=5)) as source:
            sending = gevent.spawn(send_all, source)
            first.wait_for(COUNT // 3)
            first.kill()
            second = Peer(stack, "receive", "bind", first.endpoint)
            sending.get(timeout=30)
            # All may have been under way to the first. What is sent to the second arrives.
            count = COUNT
            with gevent.Timeout(30):
                while not second.numbers:
                    send_all(source, count, 1)
                    count += 1
                    gevent.sleep(0.01)
            send_all(source, count, 1)
            wait_until(lambda: second.numbers[-1] == count, 30)
            tally.add(count + 1, first.numbers + second.numbers)


@fault("a sending process is killed", promised=False)
def _(tally):
    with contextlib.ExitStack() as stack, held(pull()) as source:
        peer = Peer(stack, "send", "connect", endpoint_of(source), 1 << 20)
        received = receive_all(source)
        peer.kill()
        with contextlib.suppress(Empty):
            while True:
                received.append(number_of(source.recv(timeout=0.05)))
        assert received == list(range(len(received))), "a gap"
        tally.add(len(peer.numbers), received[: len(peer.numbers)])


@fault("a receiving process is stopped, and goes on")
def _(tally):
    with contextlib.ExitStack() as stack:
        peer = Peer(stack, "receive", "bind", "tcp://127.0.0.1:*")
        with held(push(connect=peer.endpoint)) as source:
            sending = gevent.spawn(send_all, source)
            peer.wait_for(COUNT // 3)
            peer.signal(signal.SIGSTOP)
            gevent.sleep(0.05)
            peer.signal(signal.SIGCONT)
            sending.get(timeout=30)
            peer.wait_for(COUNT)
            tally.add(COUNT, peer.numbers)


@fault("a sending process is stopped, and goes on")
def _(tally):
    with contextlib.ExitStack() as stack, held(pull()) as source:
        peer = Peer(stack, "send", "connect", endpoint_of(source))
        received = receive_all(source, COUNT // 3)
        peer.signal(signal.SIGSTOP)
        gevent.sleep(0.05)
        peer.signal(signal.SIGCONT)
        received += receive_all(source, COUNT - len(received))
        tally.add(COUNT, received)


@fault("a process that receives through a source is stopped for longer than its timers")
def _(tally):
    with contextlib.ExitStack() as stack:
        peer = Peer(stack, "source", "bind", "tcp://127.0.0.1:*")
        with held(Source.open(zmq.PULL, connect=peer.endpoint, rcvhwm=10)) as source:
            received = receive_all(source, COUNT // 3)
            peer.signal(signal.SIGSTOP)
            gevent.sleep(0.1)
            peer.signal(signal.SIGCONT)
            received += receive_all(source, COUNT - len(received))
            wait_until(lambda: peer.has_ended, 30)
            tally.add(COUNT, received)


@fault("a sender ends, and its successor connects to the same address")
def _(tally):
    with held(pull()) as source:
        received = []
        for session in range(3):
            with contextlib.ExitStack() as stack:
                peer = Peer(stack, "source", "connect", endpoint_of(source), COUNT // 3)
                numbers = receive_all(source, COUNT // 3)
                wait_until(partial(getattr, peer, "has_ended"), 30)
                peer.process.stdin.close()
                assert peer.process.wait(timeout=10) == 0
            received += [session * COUNT // 3 + number for number in numbers]
        tally.add(COUNT, received)
