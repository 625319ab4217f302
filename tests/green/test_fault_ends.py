"""What zmq.green gets wrong about ends, threads, forks, descriptors and signals.

The marker gives the row of the table in the docs.
"""

import gc
import os
import resource
import signal
import warnings
import weakref

import gevent
import pytest
import zmq
from green_under_test import LONG, NAME, fault, silent, soon
from helpers import line_of, python_process

from gzmqsource.testing import all_blocked

# The end


@fault("close wakes the greenlets that wait, with ENOTSOCK")
@pytest.mark.parametrize("call", ["recv", "recv_multipart", "poll", "send"])
def test_closing_wakes_who_waits(context, call):
    socket = context.socket(zmq.DEALER)
    waiting = gevent.spawn(getattr(socket, call), *([b"message"] if call == "send" else []))
    all_blocked()
    socket.close(0)
    with pytest.raises(zmq.ZMQError) as caught:
        soon(waiting)
    assert caught.value.errno == zmq.ENOTSOCK


@fault("term wakes the greenlets that wait, and does not freeze the hub")
@pytest.mark.parametrize("call", ["recv", "send"])
def test_terminating_tells_who_waits_and_lets_others_run(green, context, call):
    if NAME == "zmq.green":
        pytest.fail("it would freeze the hub for good")
    socket = context.socket(zmq.DEALER)
    waiting = gevent.spawn(getattr(socket, call), *([b"message"] if call == "send" else []))
    all_blocked()
    ending = gevent.spawn(context.term)
    with pytest.raises(zmq.ContextTerminated):
        soon(waiting)
    soon(gevent.spawn(gevent.sleep, 0.01))
    assert not ending.dead
    socket.close(0)
    ending.get(timeout=LONG)
    assert context.closed


@fault("destroy returns at once while greenlets wait")
def test_destroying_wakes_who_waits(context):
    socket = context.socket(zmq.PULL)
    waiting = gevent.spawn(socket.recv)
    all_blocked()
    soon(gevent.spawn(context.destroy, 0))
    with pytest.raises(zmq.ZMQError):
        soon(waiting)


@fault("a dropped socket is collected at once, without its hub's help")
def test_a_dropped_socket_is_collected(green):
    context = green.Context()
    socket = context.socket(zmq.PULL)
    with pytest.raises(zmq.Again):
        socket.recv(zmq.NOBLOCK)
    socket.poll(1)
    gone = weakref.ref(socket)
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del socket
        assert gone() is None
    finally:
        gc.enable()
    context.destroy(0)


@pytest.mark.processes
@fault("an idle socket does not keep the hub alive")
def test_an_idle_socket_does_not_keep_the_hub_alive():
    program = f"""
import gevent, {NAME} as zmq
context = zmq.Context()
socket = context.socket(zmq.PULL)
socket.poll(1)
print(gevent.get_hub().join(timeout=2), flush=True)
socket.close()
"""
    with python_process(program) as process:
        assert line_of(process) == "True"


# Threads, forks, descriptors, signals


@fault("a socket made in another thread works")
def test_a_socket_that_was_made_in_another_thread_works(context, pair):
    made, errors = [], []
    receiver, sender = pair()

    def use():
        try:
            receiver.rcvtimeo = LONG * 1000
            waiting = gevent.spawn(receiver.recv)
            all_blocked()
            sender.send(b"message")
            made.append(waiting.get(timeout=LONG))
        except BaseException as error:
            errors.append(error)

    with silent():
        gevent.get_hub().threadpool.apply(use)
    assert (made, errors) == ([b"message"], [])


@pytest.mark.processes
@fault("in a forked child an inherited socket is inert and a new one works")
def test_a_forked_child_has_no_use_of_an_inherited_socket():
    program = f"""
import os, signal, time, gevent, {NAME} as zmq
context = zmq.Context()
socket = context.socket(zmq.PULL)
waiting = gevent.spawn(socket.recv)
gevent.sleep(0.01)
pid = gevent.fork()
if not pid:
    signal.alarm(20)  # or a child that hangs would outlive the test
    cpu = time.process_time()
    gevent.sleep(0.3)
    print("busy" if time.process_time() - cpu > 0.1 else "idle", flush=True)
    try:
        with gevent.Timeout(1):
            socket.recv()
    except zmq.ZMQError as error:
        print(error.errno == zmq.ENOTSOCK, flush=True)
    except gevent.Timeout:
        print("hangs", flush=True)
    new = zmq.Context()
    a, b = new.socket(zmq.PULL), new.socket(zmq.PUSH)
    a.bind("inproc://new")
    b.connect("inproc://new")
    b.send(b"works")
    print(a.recv().decode(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
os._exit(0)
"""
    with python_process(program) as process, gevent.Timeout(25):
        assert [line_of(process) for _ in range(3)] == ["idle", "True", "works"]


@fault("descriptors above 1023 work")
def test_descriptors_above_1023_work(pair):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        pytest.skip(f"this machine allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    blocked = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        receiver, sender = pair()
        assert receiver.FD > 1023
        waiting = gevent.spawn(receiver.poll, LONG * 1000)
        all_blocked()
        sender.send(b"message")
        assert soon(waiting) == zmq.POLLIN
        assert receiver.recv() == b"message"
    finally:
        for fd in blocked:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.processes
@fault("Ctrl-C ends a wait")
def test_a_keyboard_interrupt_ends_a_wait():
    program = f"""
import gevent, signal
import {NAME} as zmq
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
socket = zmq.Context().socket(zmq.PULL)
gevent.spawn(print, "waiting", flush=True)  # once recv lets it run
try:
    socket.recv()
except KeyboardInterrupt:
    print("interrupted", flush=True)
socket.close()
"""
    with python_process(program) as process, gevent.Timeout(25):
        assert line_of(process) == "waiting"
        process.send_signal(signal.SIGINT)
        assert line_of(process) == "interrupted"
