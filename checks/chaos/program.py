"""What a program does to itself: signals, forks, exits, kills, contexts destroyed."""

from __future__ import annotations

import signal
import sys
import threading

import gevent
import zmq
from helpers import endpoint_of, process_of

from chaos.counting import fault
from chaos.peer import number_of
from chaos.traffic import COUNT, held, pass_all, pull, push, receive_all, send_all
from gzmqsource import SourceBroken
from gzmqsource.testing import in_forked_child, no_leaks, wait_until


@fault("signals arrive in every call")
def _(tally):
    arrived: list[None] = []
    before = signal.signal(signal.SIGALRM, lambda *_: arrived.append(None))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        pass_all(tally)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert arrived


@fault("the context is destroyed underneath", promised=False)
def _(tally):
    context = zmq.Context()
    source = pull(context=context)
    sender = push(connect=endpoint_of(source), context=context)
    received, errors = [], []

    def receive():
        while True:
            received.append(number_of(source.recv()))

    def until_it_ends(function, *arguments):
        try:
            function(*arguments)
        except SourceBroken as error:
            errors.append(error)

    greenlets = [
        gevent.spawn(until_it_ends, send_all, sender, 0, 1 << 20),
        gevent.spawn(until_it_ends, receive),
    ]
    wait_until(lambda: len(received) > COUNT // 3)
    context.destroy(linger=0)
    gevent.joinall(greenlets, timeout=10)
    assert len(errors) == 2, "who waits is told"
    tally.add(max(received) + 1, received)


@fault("the process forks in the middle of traffic")
def _(tally):
    with held(pull()) as source, held(push(connect=endpoint_of(source))) as sender:

        def in_child():
            assert source.closed
            assert sender.closed

        sending = gevent.spawn(send_all, sender)
        received = []
        for _ in range(3):
            received += receive_all(source, COUNT // 3)
            in_forked_child(in_child)
        sending.get(timeout=30)
        tally.add(COUNT, received)


@fault("the interpreter exits with open sources")
def _(tally):
    program = (
        "import gevent, sys, zmq; from gzmqsource import Source\n"
        "sources = [Source.open(zmq.PULL, bind='tcp://127.0.0.1:*') for _ in range(10)]\n"
        "[gevent.spawn(source.recv) for source in sources]\n"
        "gevent.sleep(0.01)\n"
        "print('out', flush=True)\n"
    )
    with process_of(sys.executable, "-W", "ignore", "-c", program) as process:
        assert process.stdout.readline() == "out\n"
        assert process.wait(timeout=10) == 0
    tally.add(0, [])


@fault("peers connect and close all the time")
def _(tally):
    with no_leaks(), held(pull()) as source:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        endpoint = endpoint_of(source)

        def come_and_go():
            for _ in range(100):
                socket = context.socket(zmq.PUSH)
                socket.linger = 0
                socket.connect(endpoint)
                socket.close()

        with held(push(connect=endpoint_of(source))) as sender:
            sending = gevent.spawn(send_all, sender)
            thread = threading.Thread(target=come_and_go)
            thread.start()
            received = receive_all(source)
            sending.get(timeout=30)
            thread.join()
            tally.add(COUNT, received)


@fault("greenlets are killed in every call")
def _(tally):
    with held(pull()) as source, held(push(connect=endpoint_of(source))) as sender:
        received = []

        def receive():
            while True:
                received.append(number_of(source.recv()))

        sending = gevent.spawn(send_all, sender)
        while len(received) < COUNT:
            victims = [gevent.spawn(receive) for _ in range(3)]
            gevent.sleep(0.001)
            gevent.killall(victims)
        sending.get(timeout=30)
        tally.add(COUNT, received)
