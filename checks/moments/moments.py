"""The moments: each strikes a call, and checks what has become of the messages."""

from __future__ import annotations

import contextlib
import random
import signal
import sys

import gevent
from gevent.hub import get_hub

from gzmqsource.testing import in_forked_child
from moments.calls import Handled

COUNT = 150

#: The allocations that fail, one for each message: those of the call. Later ones are gevent's.
ALLOCATIONS = 25

#: Messages before, for what is made at first use.
WARM = 25


class Struck(Exception):
    """What a handler of a signal raises."""


def works(call, number):
    """Check that the call still works, both sides of it."""
    if call.receives:
        call.feed([number])
        if not isinstance(call, Handled):
            with gevent.Timeout(10, AssertionError("deaf")):
                while number not in call.got:
                    call.make(number)
        with gevent.Timeout(10, AssertionError("deaf")):
            while number not in call.got:
                gevent.sleep(0.001)
    else:
        with gevent.Timeout(10, AssertionError("deaf")):
            making = gevent.spawn(call.make, number)
            seen = []
            while number not in seen:
                seen += call.seen()
            making.get()
        assert seen.count(number) == 1, "doubled"


def blocked(call):
    """Return a greenlet that waits in the call."""
    if isinstance(call, Handled):
        call.feed([0])
        with gevent.Timeout(10, AssertionError("deaf")):
            while not call.got:
                gevent.sleep(0.001)
        return call.worker
    if not call.receives:
        call.fill()
    greenlet = gevent.spawn(call.make, call.waiting)
    call.until_waiting()
    assert not greenlet.dead, "it does not wait"
    return greenlet


def unharmed(call):
    """Check that a call which was ended has done nothing, and that the next ones work."""
    if call.receives:
        call.feed([1, 2, 3])
        want = [0, 1, 2, 3] if isinstance(call, Handled) else [1, 2, 3]
        assert sorted(call.seen()) == want, f"lost or doubled: {call.got}"
    else:
        assert call.seen() == [], "a message whose call raised has arrived"
    works(call, 7)


def kill(call):
    greenlet = blocked(call)
    greenlet.kill(block=False)
    gevent.sleep(0.01)
    unharmed(call)


def timeout(call):
    greenlet = blocked(call)
    get_hub().loop.run_callback(greenlet.throw, gevent.Timeout(0))
    gevent.sleep(0.01)
    unharmed(call)


def close(call):
    greenlet = blocked(call)
    call.close()
    ends(greenlet)


def destroy(call):
    greenlet = blocked(call)
    call.peer.close(0)
    call.destroy()
    ends(greenlet)


def ends(greenlet):
    greenlet.join(10)
    assert greenlet.dead, "it waits forever"


def fork(call):
    greenlet = blocked(call)

    def use():
        with contextlib.suppress(Exception):
            call.make_nowait(5) if not call.receives else call.drain()

    in_forked_child(use)
    if isinstance(call, Handled):
        unharmed(call)
    elif call.receives:
        call.feed([1, 2, 3])
        greenlet.join(10)
        assert call.seen() == [1, 2, 3], f"lost or doubled: {call.got}"
        works(call, 7)
    else:
        works(call, 7)


def hub(call):
    blocked(call)
    get_hub().destroy(destroy_loop=True)
    again = type(call)(call.context)
    works(again, 7)


def signal_raises(call):
    _under_signals(call, _strike)


def signal_uses(call):
    """Have the handler send by the same call, or receive."""
    extra = iter(range(COUNT, 2 * COUNT))

    def use(call):
        if call.receives:
            call.drain()
        else:
            with contextlib.suppress(StopIteration):
                number = next(extra)
                call.make_nowait(number)
                call.made.append(number)

    _under_signals(call, use)


def _strike(call):
    raise Struck


def _under_signals(call, function):
    call.made = []
    struck = 0
    is_armed = True

    def handler(_, frame):
        # Not in the hub, and not in the program that uses the call.
        is_inside = "/gzmqsource/" in frame.f_code.co_filename
        if is_armed and is_inside and gevent.getcurrent() is not get_hub():
            function(call)

    sys.unraisablehook = lambda _: None
    signal.signal(signal.SIGALRM, handler)
    if call.receives:
        call.feed(range(COUNT))
    for number in range(COUNT):
        if call.receives and len(call.got) >= COUNT - struck:
            break
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-4))
        try:
            if isinstance(call, Handled):
                gevent.sleep(0.0005)
            elif call.receives:
                with gevent.Timeout(0.1, False):  # type: ignore[arg-type]
                    call.make(number)
            else:
                call.make(number)
                call.made.append(number)
        except Struck:
            struck += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    is_armed = False
    _account(call, struck)


def _account(call, unclear):
    """Check what has arrived, of calls of which some raised when they may have been over."""
    seen = call.seen()
    assert len(seen) == len(set(seen)), "doubled"
    if isinstance(call, Handled):
        assert set(seen) | set(call.reported) == set(range(COUNT)), "lost"
    elif call.receives:
        assert len(seen) >= COUNT - unclear, "lost"
    else:
        assert set(call.made) <= set(seen), "lost"
        assert len(seen) <= len(call.made) + unclear, "sent, though refused"
    works(call, 5000)


def memory(call):
    import _testcapi  # type: ignore[import-not-found]

    call.made = []
    struck = 0
    if call.receives:
        call.feed(range(COUNT))
        gevent.sleep(0.1)
    for number in range(COUNT):
        if call.receives and len(call.got) >= COUNT:
            break
        fails = number % ALLOCATIONS
        messages = None
        if number >= WARM:
            _testcapi.set_nomemory(fails, fails + 1)
        try:
            messages = call.take() if call.receives else call.make(number)
            _testcapi.remove_mem_hooks()
            call.made.append(number)
        except MemoryError:
            _testcapi.remove_mem_hooks()
            struck += 1
        if messages:
            call.note_taken(messages)
    _account(call, 0 if call.receives else struck)


MOMENTS = {
    "kill": kill,
    "Timeout": timeout,
    "a signal's handler raises": signal_raises,
    "it sends, or receives": signal_uses,
    "no memory": memory,
    "fork": fork,
    "close": close,
    "ctx.destroy": destroy,
    "hub destroyed": hub,
}
