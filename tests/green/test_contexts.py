"""A context ends once, and greenlets of any hub, the hub itself and a thread without one wait."""

import contextlib
import ctypes
import gc
import sys
import warnings
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.monkey import get_original
from helpers import in_thread, line_of, python_process

from gzmqsource import green
from gzmqsource._base.threads import start_thread
from gzmqsource.testing import all_blocked, in_forked_child, wait_until

allocate_lock = get_original("_thread", "allocate_lock")
stack_size = get_original("_thread", "stack_size")

#: Bytes of a stack for which there are not enough addresses.
TOO_LARGE = 1 << 46


@pytest.fixture
def context():
    """A context that does not end before its one socket is closed."""
    context = green.Context()
    socket = context.socket(zmq.PUSH)
    yield context, socket
    socket.close(0)
    wait_until(lambda: context.closed)


def with_hub(function):
    """Call *function* in a native thread with a hub, which is destroyed after it."""

    def run():
        hub = get_hub()
        try:
            return function()
        finally:
            hub.destroy(destroy_loop=True)

    return run


def waiting_for_the_end(context):
    """Return how many greenlets and threads wait until the context has ended."""
    return len(vars(context)["_ending"]._joiners)


def test_greenlets_of_several_hubs_wait_for_one_termination(context):
    ctx, socket = context
    ended: list[str] = []

    def end(name):
        ctx.term()
        ended.append(name)

    def two_greenlets():
        gevent.joinall([gevent.spawn(end, "there") for _ in range(2)], raise_error=True)

    here = [gevent.spawn(end, "here") for _ in range(2)]
    all_blocked()
    start_thread(with_hub(two_greenlets), ())
    start_thread(end, ("without a hub",))
    wait_until(lambda: waiting_for_the_end(ctx) == 5)
    assert not ended
    socket.close()
    gevent.joinall(here, timeout=5, raise_error=True)
    wait_until(lambda: len(ended) == 5)
    assert ctx.closed


def test_a_greenlet_waits_for_a_termination_that_a_thread_without_a_hub_began(context):
    ctx, socket = context
    start_thread(ctx.term, ())
    wait_until(lambda: "_ending" in vars(ctx))
    ending = gevent.spawn(ctx.term)
    wait_until(lambda: waiting_for_the_end(ctx) == 1)
    assert not ctx.closed
    socket.close()
    ending.get(timeout=5)
    assert ctx.closed


def test_each_waiter_gets_the_error_of_libzmq():
    all_wait = allocate_lock()

    class Context(green.Context[Any]):
        def _terminate(self):
            with all_wait:
                super()._terminate()

    no_context = ctypes.create_string_buffer(1024)
    context = Context(shadow=ctypes.addressof(no_context))
    with all_wait:
        ending = [gevent.spawn(context.term) for _ in range(3)]
        all_blocked()
    gevent.joinall(ending, timeout=5)
    for each in ending:
        assert isinstance(each.exception, zmq.ZMQError)
        assert each.exception.errno == zmq.EFAULT


def test_a_context_whose_end_failed_can_be_ended_again_as_in_pyzmq():
    no_context = ctypes.create_string_buffer(1024)
    for kind in (zmq.Context, green.Context):
        context: zmq.Context[Any] = kind(shadow=ctypes.addressof(no_context))
        with pytest.raises(zmq.ZMQError):
            context.term()
        context.term()
        assert context.closed


def test_a_termination_goes_on_without_the_greenlets_that_waited(context):
    ctx, socket = context
    ending = gevent.spawn(ctx.term)
    all_blocked()
    ending.kill()
    assert not ctx.closed
    socket.close()
    wait_until(lambda: ctx.closed)


def test_each_call_after_the_end_raises_context_terminated(green, context):
    ctx, socket = context
    poller = green.Poller()
    poller.register(socket, zmq.POLLIN)
    ending = gevent.spawn(ctx.term)
    all_blocked()
    calls = {
        "send": lambda: socket.send(b"x"),
        "poll": lambda: socket.poll(50),
        "poll now": lambda: socket.poll(0),
        "poller": lambda: poller.poll(50),
        "poller now": lambda: poller.poll(0),
        "zmq_poll": lambda: green.zmq_poll([(socket, zmq.POLLIN)], 0),
        "monitor": lambda: socket.monitor("inproc://late"),
        "get_monitor_socket": socket.get_monitor_socket,
    }
    for call in 2 * list(calls.values()):
        with pytest.raises(zmq.ContextTerminated):
            call()
    socket.close()
    ending.join(5)
    assert ctx.closed


def test_greenlets_run_while_a_context_ends(context):
    ctx, socket = context
    raised = []

    def close_at_the_end():
        try:
            socket.recv()
        except zmq.ZMQError as error:
            raised.append(error.errno)
        socket.close()

    receiver = ctx.socket(zmq.PULL)
    socket.close()
    socket = receiver
    gevent.spawn(close_at_the_end)
    all_blocked()
    with gevent.Timeout(5):
        ctx.term()
    assert raised == [zmq.ETERM]


def test_the_hub_itself_can_end_a_context(told):
    context = green.Context()
    get_hub().loop.run_callback(context.term)
    wait_until(lambda: context.closed)
    assert not told


def test_the_hub_itself_waits_for_a_termination_that_a_greenlet_began(context, told):
    ctx, socket = context
    ending = gevent.spawn(ctx.term)
    all_blocked()
    closed = []

    def end():
        socket.close()
        ctx.term()
        closed.append(ctx.closed)

    get_hub().loop.run_callback(end)
    wait_until(lambda: closed)
    assert closed == [True]
    ending.get(timeout=5)
    assert not told


@pytest.mark.skipif(sys.maxsize < TOO_LARGE, reason="a stack of 32 bits may be had")
def test_a_context_ends_where_no_thread_can_be_started():
    context = green.Context()
    usual = stack_size(TOO_LARGE)
    try:
        with pytest.raises(RuntimeError):
            start_thread(int, ())
        gevent.spawn(context.term).get(timeout=5)
    finally:
        stack_size(usual)
    assert context.closed


def test_a_thread_without_a_hub_gets_none_to_end_a_context():
    from gevent._hub_local import get_hub_if_exists

    def end():
        green.Context().term()
        return get_hub_if_exists() is None

    assert in_thread(end) is True


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("how", ["proxy", "monitored_queue"])
def test_a_context_ends_with_a_proxy_whose_sockets_are_only_dropped(how, is_killed):
    context: green.Context[Any] = green.Context()

    def run():
        sockets = [context.socket(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.PUB)]
        with contextlib.suppress(zmq.ContextTerminated):
            getattr(green, how)(*sockets)

    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            running = gevent.spawn(run)
            all_blocked()
            if is_killed:
                running.kill()
            del running
            gevent.spawn(context.term).get(timeout=10)
    finally:
        gc.enable()


def test_a_dropped_context_ends_without_a_switch():
    switches: list[bool] = []
    context = green.Context()
    gevent.spawn(switches.append, True)
    with pytest.warns(ResourceWarning, match="Unclosed context"):
        del context
    assert not switches
    all_blocked()


def test_a_forked_child_waits_for_no_termination_of_its_parent(context):
    ctx, socket = context
    ending = gevent.spawn(ctx.term)
    all_blocked()

    def end():
        ctx.term()
        assert ctx.closed

    in_forked_child(end)
    assert not ctx.closed
    socket.close()
    ending.get(timeout=5)


def test_destroy_closes_sockets_on_which_greenlets_of_two_hubs_wait():
    context = green.Context()
    here, there = context.socket(zmq.PULL), context.socket(zmq.PULL)
    errors: list[int | None] = []

    def wait(socket):
        try:
            socket.recv()
        except zmq.ZMQError as error:
            errors.append(error.errno)

    waiting = gevent.spawn(wait, here)
    all_blocked()
    start_thread(with_hub(lambda: wait(there)), ())
    wait_until(lambda: there._shared is not None and there._shared.readiness.readers)
    with gevent.Timeout(5):
        context.destroy(0)
    waiting.get(timeout=5)
    wait_until(lambda: len(errors) == 2)
    assert errors == [zmq.ENOTSOCK] * 2
    assert context.closed
    assert here.closed
    assert there.closed


def test_both_leave_a_with_block_of_one_context():
    context = green.Context()
    left = []

    def use():
        with context:
            gevent.sleep(0)
        left.append(context.closed)

    users = [gevent.spawn(use) for _ in range(2)]
    gevent.joinall(users, timeout=5, raise_error=True)
    assert left == [True, True]


# In processes of their own


EXIT = """
import atexit, sys
if sys.argv[1] == "patched":
    import gevent.monkey
    gevent.monkey.patch_all(zmq=True)
    import zmq
else:
    import gzmqsource.green as zmq

context = zmq.Context()
pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
port = pull.bind_to_random_port("tcp://127.0.0.1")
push.connect(f"tcp://127.0.0.1:{port}")
push.send(b"x")
assert pull.recv() == b"x"

def close_and_term():
    pull.close()
    push.close()
    context.term()

def linger():
    push.send(b"y")
    push.close(100)
    pull.close()
    context.term()

def destroy():
    context.destroy(0)

@atexit.register
def end():
    globals()[sys.argv[2]]()
    print("ended", context.closed, flush=True)
"""


@pytest.mark.processes
@pytest.mark.limit(60)
@pytest.mark.parametrize("how", ["close_and_term", "linger", "destroy"])
@pytest.mark.parametrize("zmq_is", ["green", "patched"])
def test_a_context_ends_at_exit(zmq_is, how):
    with python_process(EXIT, zmq_is, how) as process:
        assert line_of(process) == "ended True"
        assert process.wait(20) == 0


INTERRUPTED = """
import os, signal
import gevent
import gzmqsource.green as zmq

# A process in a shell's background inherits that it is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
context = zmq.Context()
socket = context.socket(zmq.PUSH)

def interrupt():
    while "_ending" not in vars(context) or not vars(context)["_ending"]._joiners:
        gevent.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

gevent.spawn(interrupt)
try:
    context.term()
except KeyboardInterrupt:
    print("interrupted", context.closed, flush=True)
socket.close()
context.term()
print("ended", context.closed, flush=True)
"""


@pytest.mark.processes
@pytest.mark.limit(60)
def test_an_interrupt_ends_the_wait_and_not_the_termination():
    with python_process(INTERRUPTED) as process:
        assert line_of(process) == "interrupted False"
        assert line_of(process) == "ended True"
        assert process.wait(20) == 0
