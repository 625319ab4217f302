"""A socket that no greenlet waits on works in the next thread, and in the next hub."""

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from helpers import in_thread

from gzmqsource.testing import all_blocked

CALLS = {
    "recv": lambda receiver: receiver.recv(),
    "recv lent": lambda receiver: receiver.recv(copy=False).bytes,
    "recv_multipart": lambda receiver: receiver.recv_multipart()[0],
    "poll": lambda receiver: receiver.poll() and receiver.recv(),
}


def use(receiver, sender, call, number):
    """Receive in the current hub what is sent while the receiver waits."""
    try:
        receiving = gevent.spawn(CALLS[call], receiver)
        all_blocked()
        sender.send(b"%d" % number)
        with gevent.Timeout(20):
            assert receiving.get() == b"%d" % number
    finally:
        get_hub().destroy(destroy_loop=True)


@pytest.mark.parametrize("call", CALLS)
def test_a_socket_goes_from_thread_to_thread(pair, call):
    """Of which each may have the identifier of the one before."""
    receiver, sender = pair()
    for number in range(5):
        assert in_thread(use, receiver, sender, call, number) is None


@pytest.mark.parametrize("call", CALLS)
def test_a_socket_goes_from_hub_to_hub_of_one_thread(pair, call):
    receiver, sender = pair()

    def use_all():
        for number in range(3):
            use(receiver, sender, call, number)

    assert in_thread(use_all) is None


def test_a_send_that_waits_works_in_the_next_hub(context):
    receiver, sender = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    receiver.rcvhwm = sender.sndhwm = 1
    receiver.bind("inproc://next")
    sender.connect("inproc://next")

    def use_both():
        try:
            sending = gevent.spawn(lambda: [sender.send(b"%d" % n) for n in range(20)])
            all_blocked()
            assert not sending.ready()
            with gevent.Timeout(20):
                assert [receiver.recv() for _ in range(20)] == [b"%d" % n for n in range(20)]
                sending.get()
        finally:
            get_hub().destroy(destroy_loop=True)

    for _ in range(3):
        assert in_thread(use_both) is None


@pytest.mark.skipif(
    "libuv" in type(get_hub().loop).__module__,
    reason="gevent's libuv loop cannot be destroyed while an I/O watcher is active",
)
def test_what_waits_in_a_destroyed_hub_keeps_no_other_from_the_socket(pair):
    receiver, sender = pair()
    abandoned = []

    def abandon_a_wait():
        hub = get_hub()
        abandoned.append(gevent.spawn(receiver.recv))
        all_blocked()
        hub.destroy(destroy_loop=True)

    assert in_thread(abandon_a_wait) is None
    assert in_thread(use, receiver, sender, "recv", 1) is None
