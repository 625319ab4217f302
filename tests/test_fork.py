"""A forked child: inherited sources are closed, silent and cheap; each test forks a program."""

import pytest
import zmq.backend
from helpers import python_process

needs_drop_in = pytest.mark.skipif(
    zmq.backend.Socket.__module__.startswith("zmq.backend.cffi"),
    reason="the drop-in needs pyzmq's backend in Cython",
)

BEGIN = """
import gc, os, sys, time, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import gevent
import gevent.os
import zmq
from gzmqsource import Source, SourceClosed, SourceForked
from gzmqsource.testing import all_blocked, wait_until

fork = {"os": os.fork, "gevent": gevent.os.fork}[sys.argv[1]]

def expect_forked(call):
    try:
        call()
    except SourceForked as error:
        assert "parent process" in str(error), error
    else:
        raise AssertionError("nothing was raised")

def in_child(function):
    \"\"\"Fork; the child calls the function and says on a pipe whether that succeeded.\"\"\"
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        said = b"failed"
        try:
            if fork is os.fork and "libuv" in type(gevent.get_hub().loop).__module__:
                gevent.reinit()  # this loop does not notice a fork by itself
            function()
            said = b"good"
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    os.set_blocking(reading, False)
    return child, reading

def reap(forked, timeout=20):
    child, reading = forked
    deadline = time.monotonic() + timeout
    while True:
        try:
            said = os.read(reading, 100)
            break
        except BlockingIOError:
            pass
        if time.monotonic() > deadline:
            os.kill(child, 9)
            raise AssertionError("the child hangs")
        gevent.sleep(0.005)
    os.close(reading)
    assert said == b"good", said

def address(source):
    return source.socket.get(zmq.LAST_ENDPOINT).rstrip(b"\\0").decode()

context = zmq.Context()
received = []
receiver = Source.open(zmq.PULL, bind=sys.argv[2], context=context)
sender = Source.open(zmq.PUSH, connect=address(receiver), context=context)
handled = []
server = Source.open(zmq.DEALER, handled.append, bind="tcp://127.0.0.1:*", context=context)
client = Source.open(zmq.DEALER, connect=address(server), context=context)
server.start()

def read():
    while True:
        try:
            received.append(receiver.recv()[0])
        except SourceClosed:
            return

reading = gevent.spawn(read)
pulling = gevent.spawn(client.recv)
sender.send(b"before")
client.send(b"before")
wait_until(lambda: received == [b"before"] and handled == [[b"before"]])
all_blocked()
sources = [receiver, sender, server, client]
"""

END = """
def goes_on():
    for number in range(100):
        sender.send(b"%d" % number)
        client.send(b"%d" % number)
    wait_until(lambda: len(received) == 101 and len(handled) == 101)
    assert received[1:] == [b"%d" % number for number in range(100)]
    server.send(b"to the client")
    assert pulling.get(timeout=10) == [b"to the client"]

goes_on()
for source in sources:
    source.close()
reading.join()
context.term()
print("parent done", flush=True)
"""


def run(program, fork, tmp_path, transport="tcp"):
    endpoint = {
        "tcp": "tcp://127.0.0.1:*",
        "ipc": f"ipc://{tmp_path}/socket",
        "inproc": "inproc://x",
    }[transport]
    errors = tmp_path / "errors"
    with (
        errors.open("w") as stderr,
        python_process(BEGIN + program + END, fork, endpoint, stderr=stderr) as process,
    ):
        lines = process.stdout.read().splitlines()
        status = process.wait()
    assert (status, errors.read_text()) == (0, "")
    assert lines[-1:] == ["parent done"]
    return lines[:-1]


pytestmark = [pytest.mark.processes, pytest.mark.parametrize("fork", ["os", "gevent"])]


def test_an_inherited_source_says_so_when_it_is_used(fork, tmp_path):
    program = """
old_socket, old_sender = receiver.socket, sender.sender()

def child():
    for source in sources:
        assert source.closed
        assert not source.started
        for name in ("recv", "flush", "sender", "pause", "resume", "start", "serve_forever"):
            expect_forked(getattr(source, name))
        expect_forked(lambda: source.send(b"message"))
        expect_forked(lambda: source.send_nowait(b"message"))
        expect_forked(lambda: source.recv(block=False))
        expect_forked(lambda: source.recv_many(3))
        expect_forked(lambda: source.socket)
        expect_forked(lambda: next(iter(source)))
        source.close()
        assert source.stop() == []
        repr(source)
        source.stats()
    expect_forked(lambda: old_sender.send(b"message"))
    print("child done")

reap(in_child(child))
"""
    assert run(program, fork, tmp_path) == ["child done"]


@pytest.mark.parametrize("transport", ["inproc", "tcp"])
def test_an_inherited_source_burns_no_cpu_in_the_child(fork, tmp_path, transport):
    program = """
def child():
    all_blocked()
    begun = time.process_time()
    gevent.sleep(0.2)
    used = time.process_time() - begun
    assert used < 0.02, used
    print("child done")

forked = in_child(child)
# Edges in the descriptors that both processes hold.
for number in range(3):
    sender.send(b"meanwhile")
    client.send(b"meanwhile")
    gevent.sleep(0.1)
reap(forked)
wait_until(lambda: received[1:] == [b"meanwhile"] * 3)
wait_until(lambda: handled[1:] == [[b"meanwhile"]] * 3)
del received[1:], handled[1:]
"""
    assert run(program, fork, tmp_path, transport) == ["child done"]


def test_new_sources_work_in_the_child(fork, tmp_path):
    program = """
def child():
    mine = zmq.Context()
    source = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=mine)
    other = Source.open(zmq.PUSH, connect=address(source), context=mine)
    taken = []
    server = Source.open(zmq.PULL, taken.append, bind="tcp://127.0.0.1:*", context=mine)
    server.start()
    caller = Source.open(zmq.PUSH, connect=address(server), context=mine)
    waiting = gevent.spawn(source.recv)
    all_blocked()
    for number in range(50):
        other.send(b"%d" % number)
        caller.send(b"%d" % number)
    assert waiting.get(timeout=5) == [b"0"]
    for number in range(1, 50):
        assert source.recv(timeout=5) == [b"%d" % number]
    wait_until(lambda: len(taken) == 50)
    for one in (source, other, server, caller):
        one.stop()
    mine.term()
    print("child done")

reap(in_child(child))
"""
    assert run(program, fork, tmp_path) == ["child done"]


def test_dropping_an_inherited_source_is_silent(fork, tmp_path):
    program = """
def child():
    global receiver, sender, server, client, reading, pulling
    sources.clear()
    receiver = sender = server = client = reading = pulling = None
    gc.collect()
    all_blocked()
    gc.collect()
    print("child done")

reap(in_child(child))
"""
    assert run(program, fork, tmp_path) == ["child done"]


@pytest.mark.parametrize("transport", ["inproc", "ipc", "tcp"])
def test_the_parent_gets_every_message_after_the_child_has_run_its_hub(fork, tmp_path, transport):
    program = """
for _ in range(3):
    reap(in_child(lambda: all_blocked(20)))
"""
    assert run(program, fork, tmp_path, transport) == []


@needs_drop_in
def test_a_hub_that_was_destroyed_does_not_keep_the_others_from_being_silenced(fork, tmp_path):
    program = """
import threading

left = []

def in_thread():
    import gzmqsource.green
    left.append(gzmqsource.green.Context.shadow(context).socket(zmq.PULL))
    left[0].rcvtimeo = 1
    try:
        left[0].recv()
    except zmq.Again:
        pass
    gevent.get_hub().destroy(destroy_loop=True)

thread = threading.Thread(target=in_thread)
thread.start()
thread.join()

def child():
    for source in sources:
        expect_forked(source.sender)
    print("child done")

reap(in_child(child))
left[0].close()
"""
    assert run(program, fork, tmp_path) == ["child done"]


def test_a_child_that_forks_again_is_served_alike(fork, tmp_path):
    program = """
def grandchild():
    begun = time.process_time()
    gevent.sleep(0.2)
    assert time.process_time() - begun < 0.04
    expect_forked(receiver.recv)
    print("grandchild done")

def child():
    all_blocked()
    reap(in_child(grandchild))
    print("child done")

reap(in_child(child))
"""
    assert run(program, fork, tmp_path) == ["grandchild done", "child done"]


def test_messages_in_the_hand_of_the_parent_are_not_handled_in_the_child(fork, tmp_path):
    program = """
begun, go_on = gevent.event.Event(), gevent.event.Event()
slow = []

def handle(message):
    slow.append((os.getpid(), message))
    begun.set()
    go_on.wait()

busy = Source.open(zmq.PULL, handle, bind="inproc://busy", context=context)
busy.max_batch = 100
feeding = Source.open(zmq.PUSH, connect=address(busy), context=context)
for number in range(50):
    feeding.send(b"%d" % number)
busy.start()
for _ in range(40):
    begun.wait()
    begun.clear()
    if busy.stats().in_hand >= 2:
        break
    go_on.set()
    gevent.sleep(0)
    go_on.clear()
assert busy.stats().in_hand, busy.stats()
before = len(slow)

def child():
    go_on.set()
    all_blocked(20)
    assert len(slow) == before, slow
    print("child done")

reap(in_child(child))
go_on.set()
wait_until(lambda: len(slow) == 50)
assert [message for _, message in slow] == [[b"%d" % number] for number in range(50)]
busy.close()
feeding.close()
"""
    assert run(program, fork, tmp_path) == ["child done"]


@needs_drop_in
def test_an_inherited_green_socket_says_where_it_was_made(fork, tmp_path):
    program = """
from gzmqsource import green

used, unused = (green.Context.shadow(context).socket(zmq.PULL) for _ in range(2))
try:
    used.recv(zmq.NOBLOCK)
except zmq.Again:
    pass

def child():
    for socket in used, unused:
        for call in (
            lambda: socket.poll(0),
            lambda: green.zmq_poll([(socket, zmq.POLLIN)]),
            lambda: socket.get(zmq.EVENTS),
            lambda: socket.bind("inproc://child"),
            lambda: green.proxy(socket, unused),
            lambda: green.device(zmq.QUEUE, socket, unused),
            lambda: green.monitored_queue(socket, unused, unused),
        ):
            try:
                call()
            except zmq.ZMQError as error:
                # ENOTSUP is what pyzmq's poll raises for a closed socket.
                assert error.errno in (zmq.ENOTSOCK, zmq.ENOTSUP), error
            else:
                raise AssertionError("it was used")
        for flags in 0, zmq.NOBLOCK:
            try:
                socket.recv(flags)
            except zmq.ZMQError as error:
                assert error.errno == zmq.ENOTSOCK and "made in the parent" in str(error), error
            else:
                raise AssertionError("it received")
    print("child done")

reap(in_child(child))
used.close()
unused.close()
"""
    assert run(program, fork, tmp_path) == ["child done"]


def test_an_inherited_watcher_is_stopped_by_the_childs_hub(fork, tmp_path):
    program = """
def watched():
    watchers = [source._core.socket.readiness._watcher for source in sources]
    return [watcher for watcher in watchers if watcher is not None and watcher.active]

assert watched()

def child():
    gevent.sleep(0.01)
    assert not watched()
    print("child done")

reap(in_child(child))
assert watched()
"""
    assert run(program, fork, tmp_path) == ["child done"]


def test_workers_of_the_parent_end_in_the_child_and_begin_nothing(fork, tmp_path):
    program = """
begun, ended, gate = [], [], gevent.event.Event()

def handle(message):
    begun.append((os.getpid(), message))
    workers.add(gevent.getcurrent())
    gate.wait()
    ended.append((os.getpid(), message))

workers = set()
crew = Source.open(zmq.PULL, handle, bind="inproc://crew", context=context, spawn=3)
feeding = Source.open(zmq.PUSH, connect=address(crew), context=context)
crew.start()
for number in range(3):
    feeding.send(b"%d" % number)
wait_until(lambda: len(begun) == 3)
gate.set()
all_blocked()  # one leads, and two are parked
gate.clear()
for number in range(3, 5):
    feeding.send(b"%d" % number)
wait_until(lambda: len(begun) == 5)
for number in range(5, 9):
    feeding.send(b"%d" % number)
all_blocked()

def child():
    gate.set()
    all_blocked(20)
    assert {pid for pid, _ in begun} == {os.getppid()}, begun
    assert len(ended) == len(begun), ended
    assert len([each for each in workers if not each.dead]) <= 1, workers
    print("child done")

reap(in_child(child))
gate.set()
wait_until(lambda: len(ended) == 9)
assert [message for _, message in begun] == [[b"%d" % number] for number in range(9)]
crew.close()
feeding.close()
wait_until(lambda: all(each.dead for each in workers))
"""
    assert run(program, fork, tmp_path) == ["child done"]
