"""Peers in other processes that are full, stopped, killed, or late."""

import contextlib
import signal
import time
from typing import Any

import gevent.queue
import zmq
from helpers import closing, endpoint_of, line_of, python_process, until_nothing_moves

from gzmqsource import SendError, Source
from gzmqsource.monitor import Monitor
from gzmqsource.testing import all_blocked, wait_until

READER = """
import sys, zmq
address, name, count = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
context = zmq.Context()
dealer = context.socket(zmq.DEALER)
dealer.routing_id = name
dealer.rcvhwm = 5
dealer.rcvbuf = 4096
dealer.connect(address)
dealer.send(b"here")
if not count:
    sys.stdin.read()
expected = 0
while expected < count:
    number, filler = dealer.recv_multipart()
    assert int(number) == expected, (number, expected)
    expected += 1
print("read", expected, flush=True)
sys.stdin.read()
"""


def test_a_peer_that_does_not_read_holds_up_no_other_and_costs_no_cpu(context):
    count, filler = 2000, b"x" * 1000
    router = Source.open(
        zmq.ROUTER,
        bind="tcp://127.0.0.1:*",
        context=context,
        router_mandatory=1,
        sndhwm=5,
        sndbuf=4096,
        outbox=10,
        linger=0,
    )
    address = endpoint_of(router)
    with (
        closing(router),
        python_process(READER, address, "deaf", 0),
        python_process(READER, address, "one", count) as one,
        python_process(READER, address, "two", count) as two,
    ):
        peers = sorted(router.recv(timeout=10)[0] for _ in range(3))
        assert peers == [b"deaf", b"one", b"two"]

        def feed(peer):
            for number in range(count):
                router.send([peer, b"%d" % number, filler])

        deaf = gevent.spawn(feed, b"deaf")
        others = [gevent.spawn(feed, peer) for peer in (b"one", b"two")]
        gevent.joinall(others, timeout=20, raise_error=True)
        assert line_of(one) == f"read {count}"
        assert line_of(two) == f"read {count}"
        assert not deaf.ready()
        assert router.stats().outbox_depth == 10
        before = time.process_time()
        gevent.sleep(0.5)
        assert time.process_time() - before < 0.025
        deaf.kill()


def test_a_full_peer_that_goes_is_reported_with_each_message(context):
    errors: list[tuple[BaseException, Any]] = []
    number = 0
    router = Source.open(
        zmq.ROUTER,
        bind="tcp://127.0.0.1:*",
        context=context,
        router_mandatory=1,
        sndhwm=5,
        sndbuf=4096,
        linger=0,
        on_error=lambda error, message: errors.append((error, message)),
    )
    with closing(router):
        with python_process(READER, endpoint_of(router), "deaf", 0):
            router.recv(timeout=10)
            # Many times more than the buffers of both ends and of the kernel still have room for.
            while router.stats().outbox_depth < 500:
                router.send([b"deaf", b"%d" % number, b"x" * 1000])
                number += 1
            until_nothing_moves(router)
        # The process was killed: only the retry of each queued message tells it.
        wait_until(lambda: router.stats().outbox_depth == 0)
        stats = router.stats()
    for error, message in errors:
        assert isinstance(error, SendError)
        assert (error.errno, error.message) == (zmq.EHOSTUNREACH, message)
    # The last of what was sent, in order, none left out.
    assert len(errors) > 0
    assert [int(message[1]) for _, message in errors] == [*range(stats.sent, number)]
    assert stats.dropped == {"refused": len(errors)}


MULTIPART = """
import os, sys, zmq
context = zmq.Context()
push = context.socket(zmq.PUSH)
push.connect(sys.argv[1])
name, number = sys.argv[2].encode(), 0
while True:
    ends = [name + b" %d" % number]
    push.send_multipart(ends + [os.urandom(1) * 100_000] * 20 + ends)
    number += 1
    if number == 20:
        print("going", flush=True)
"""


def test_a_peer_killed_within_a_large_message_tears_nothing(context):
    receiver = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    names, messages = (b"one", b"two", b"three"), []
    with closing(receiver):
        for name in names:
            with (
                Monitor(receiver, zmq.EVENT_DISCONNECTED) as monitor,
                python_process(MULTIPART, endpoint_of(receiver), name.decode()) as peer,
            ):
                messages.append(receiver.recv(timeout=10))
                line_of(peer)
                peer.kill()
                monitor.wait_for("disconnected", timeout=10)
                with contextlib.suppress(gevent.queue.Empty):
                    while True:
                        messages.append(receiver.recv(block=False))
        assert receiver.stats().received == len(messages)
    for message in messages:
        assert len(message) == 22
        assert message[0] == message[-1]
        assert len(set(message[1:-1])) == 1
    for name in names:
        numbers = [int(first.split()[1]) for first, *_ in messages if first.startswith(name)]
        assert numbers == [*range(len(numbers))]


COUNTING = """
import sys, zmq
context = zmq.Context()
pull = context.socket(zmq.PULL)
pull.rcvhwm = 5
pull.rcvbuf = 4096
pull.connect(sys.argv[1])
print("here", flush=True)
for number in range(int(sys.argv[2])):
    assert int(pull.recv_multipart()[0]) == number
print("all", flush=True)
sys.stdin.read()
"""


def test_a_stopped_peer_holds_the_sender_and_gets_everything_when_it_goes_on(context):
    count = 1000
    sender = Source.open(
        zmq.PUSH, bind="tcp://127.0.0.1:*", context=context, sndhwm=5, sndbuf=4096, outbox=10
    )

    def send_all():
        for n in range(1, count):
            sender.send([b"%d" % n, b"x" * 1000])

    with closing(sender), python_process(COUNTING, endpoint_of(sender), count) as peer:
        assert line_of(peer) == "here"
        sender.send([b"0", b"x" * 1000])
        sender.flush()
        peer.send_signal(signal.SIGSTOP)
        sending = gevent.spawn(send_all)
        wait_until(lambda: sender.stats().outbox_depth == 10)
        all_blocked(20)
        assert not sending.ready()
        peer.send_signal(signal.SIGCONT)
        sending.get(timeout=20)
        assert line_of(peer) == "all"


LATE = """
import sys, zmq
sys.stdin.readline()
context = zmq.Context()
pull = context.socket(zmq.PULL)
pull.bind(sys.argv[1])
for number in range(100):
    assert int(pull.recv()) == number
print("all", flush=True)
sys.stdin.read()
"""

STOPPING = """
import sys, zmq
from gzmqsource import Source
source = Source.open(zmq.PUSH, connect=sys.argv[1])
for number in range(100):
    source.send(b"%d" % number)
print("stops", flush=True)
print(source.stop(20))
"""


def test_a_program_that_ends_right_after_stop_has_sent_everything(tmp_path):
    address = f"ipc://{tmp_path}/late"
    with (
        python_process(LATE, address) as peer,
        python_process(STOPPING, address) as program,
    ):
        assert line_of(program) == "stops"
        peer.stdin.write("bind\n")
        peer.stdin.flush()
        assert line_of(program) == "[]"
        assert program.wait(timeout=10) == 0
        assert line_of(peer) == "all"
