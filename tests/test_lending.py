"""Large frames that are lent to libzmq: when they are given back, and when the process ends."""

import pathlib
import sys
import weakref

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from helpers import free_ports, python_process
from slow_exit import check_all_arrives, needs_atexit_of_c

from gzmqsource import transfer
from gzmqsource.testing import wait_until
from gzmqsource.transfer import transfer_for

allocate_lock = get_original("_thread", "allocate_lock")
start_thread = get_original("_thread", "start_new_thread")

BIG = 100_000


class Buffer(bytearray):
    """A buffer to which a weak reference is possible."""


def test_a_lent_frame_is_given_back_while_the_main_thread_sits_in_a_lock(context):
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        push.connect(endpoint)
        lock = allocate_lock()
        lock.acquire()
        buffer = Buffer(BIG)
        weakref.finalize(buffer, lock.release)
        assert transfer_for(push).send_one([memoryview(buffer)])  # type: ignore[list-item]
        del buffer
        before = sys.getswitchinterval()
        sys.setswitchinterval(100)
        try:
            # The thread runs when this one gives up the GIL, and that is in the lock.
            start_thread(pull.bind, (endpoint,))
            assert lock.acquire(True, 20), "it is still lent"
        finally:
            sys.setswitchinterval(before)
        assert len(pull.recv()) == BIG


#: Lends 1,000 frames, which are given back at once, and most are taken back by the next lending.
#: For each line that it reads it prints how often the collector has had to wait.
LENDING = """
import os, pathlib, sys, time
import zmq
from gzmqsource.transfer import transfer_for
with zmq.Context() as context, context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
    pull.bind("inproc://there")
    push.connect("inproc://there")
    transfer = transfer_for(push)
    for _ in range(1000):
        assert transfer.send_one(bytes(100_000))
        pull.recv()
    for _ in range(10_000):  # libzmq's threads name themselves, once they run
        others = [thread for thread in pathlib.Path("/proc/self/task").iterdir()
            if int(thread.name) != os.getpid() and "ZMQbg" not in (thread / "comm").read_text()]
        if len(others) == 1:
            break
        time.sleep(0.001)
    [collector] = others
    for _ in sys.stdin:
        print((collector / "status").read_text().split("voluntary_ctxt_switches:")[1].split()[0])
        sys.stdout.flush()
"""


@pytest.mark.processes
@pytest.mark.skipif(transfer.backend == "pure", reason="it lends nothing")
@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="Linux shows threads")
def test_the_collector_rests_once_all_was_given_back():
    def waits():
        process.stdin.write("?\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def rests():
        before = waits()
        gevent.sleep(0.05)  # five of its pauses
        return waits() == before

    with python_process(LENDING) as process:
        wait_until(rests, 5)
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.processes
@needs_atexit_of_c
@pytest.mark.parametrize("form", ["source", "green"])
def test_a_process_that_ends_while_frames_are_lent_ends_well(context, form):
    check_all_arrives(context, "plain", form, "bytes", 40)
