"""A tracker is one of pyzmq's, and a wait for it lets other greenlets run."""

import threading
import time
from typing import Any

import gevent
import pytest
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.hub import get_hub
from helpers import in_thread
from patching import run

from gzmqsource import green
from gzmqsource._base.threads import start_thread
from gzmqsource.green._tracker import cooperative
from gzmqsource.testing import all_blocked, wait_until

#: Of `zmq`, also where it is patched later.
PlainTracker = zmq.MessageTracker


@pytest.fixture
def frame():
    """A function that makes a frame, whose tracker is done when the frame is gone."""
    return lambda: zmq.Frame(b"x" * 100, copy=False, track=True)


def test_it_tracks_what_pyzmqs_tracks(frame):
    frames = [frame(), frame(), frame()]
    event = threading.Event()
    trackers = [
        green.MessageTracker(frames[0]),
        green.MessageTracker(*frames),
        green.MessageTracker(frames[0].tracker, event),
        green.MessageTracker(green.MessageTracker(frames[1]), event),
    ]
    assert all(isinstance(each, PlainTracker) for each in trackers)
    assert not any(each.done for each in trackers)
    frames.clear()
    trackers[0].wait(5)
    trackers[1].wait(5)
    for each in trackers[2:]:
        with pytest.raises(zmq.NotDone):
            each.wait(0)
    event.set()
    for each in trackers:
        each.wait(5)
        assert each.done
    green.MessageTracker().wait()


def test_it_refuses_what_pyzmqs_refuses():
    untracked: Any = zmq.Frame(b"x")
    for kind in (PlainTracker, green.MessageTracker):
        with pytest.raises(ValueError, match="Not a tracked message"):
            kind(untracked)
        with pytest.raises(TypeError, match="Require Events or Message Frames"):
            kind(b"x")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [-1, None, False, 20], ids=str)
def test_greenlets_run_while_one_waits(frame, timeout):
    tracked = [frame()]
    tracker = green.MessageTracker(tracked[0])
    waiting = gevent.spawn(tracker.wait, timeout)
    all_blocked()
    assert not waiting.dead
    tracked.clear()
    assert waiting.get(timeout=5) is None


def test_greenlets_of_another_threads_hub_can_wait(frame):
    tracked = [frame()]
    tracker = green.MessageTracker(tracked[0])
    blocked: list[bool] = []
    done: list[bool] = []

    def wait():
        hub = get_hub()
        waiting = [gevent.spawn(tracker.wait) for _ in range(2)]
        all_blocked()
        blocked.append(not any(each.dead for each in waiting))
        gevent.joinall(waiting, raise_error=True)
        done.append(tracker.done)
        hub.destroy(destroy_loop=True)

    start_thread(wait, ())
    wait_until(lambda: blocked)
    assert blocked == [True]
    assert not done
    tracked.clear()
    wait_until(lambda: done)
    assert done == [True]


@pytest.mark.skipif(
    threading.Event.__module__.startswith("gevent"), reason="a patched Event waits in a hub"
)
def test_a_thread_without_a_hub_gets_none_to_wait(frame):
    tracked = [frame()]
    tracker = green.MessageTracker(tracked[0])

    def wait():
        with pytest.raises(zmq.NotDone):
            tracker.wait(0.01)
        tracked.clear()
        tracker.wait(5)
        return get_hub_if_exists() is None

    assert in_thread(wait) is True


def test_pyzmqs_own_tracker_becomes_cooperative_and_stays_the_same(frame):
    tracked = [frame()]
    tracker = tracked[0].tracker
    assert type(tracker) is PlainTracker
    assert cooperative(tracker) is tracker
    assert tracked[0].tracker is tracker
    assert isinstance(tracker, green.MessageTracker)
    waiting = gevent.spawn(tracker.wait)
    all_blocked()
    assert not waiting.dead
    tracked.clear()
    waiting.get(timeout=5)


def test_a_tracker_that_is_not_pyzmqs_own_stays_as_it_is():
    class Tracker(PlainTracker):
        pass

    own = Tracker()
    assert type(cooperative(own)) is Tracker
    assert cooperative(None) is None
    assert isinstance(cooperative(zmq._FINISHED_TRACKER), green.MessageTracker)


def test_a_thousand_waiting_greenlets_take_no_cpu():
    event = threading.Event()
    waiting = [gevent.spawn(green.MessageTracker(event).wait) for _ in range(1000)]
    all_blocked()
    begin, cpu = time.monotonic(), time.process_time()
    gevent.sleep(0.3)
    assert time.process_time() - cpu < (time.monotonic() - begin) / 4
    event.set()
    gevent.joinall(waiting, timeout=10, raise_error=True)
    assert all(each.dead for each in waiting)


def test_an_event_that_is_set_when_a_wait_begins_ends_it():
    class SetMeanwhile(threading.Event):
        def is_set(self):
            if super().is_set():
                return True
            self.set()
            return False

    waiting = gevent.spawn(green.MessageTracker(SetMeanwhile()).wait)
    waiting.get(timeout=5)


def waiters_of(event: Any):
    """How many wait for an event: a native one, or gevent's where threads are patched."""
    return event.linkcount() if "linkcount" in dir(event) else len(event._cond._waiters)


def test_a_wait_that_timed_out_or_was_killed_leaves_nothing_behind():
    event = threading.Event()
    tracker = green.MessageTracker(event)
    killed = gevent.spawn(tracker.wait)
    all_blocked()
    assert waiters_of(event) == 1
    killed.kill()
    with pytest.raises(zmq.NotDone):
        gevent.spawn(tracker.wait, 0.001).get(timeout=5)
    assert waiters_of(event) == 0


@pytest.mark.processes
@pytest.mark.limit(90)
@pytest.mark.parametrize("patches", ["", "zmq=True"])
def test_frames_that_are_freed_at_once_do_not_stop_a_patched_process(patches):
    """More of them than the sockets of pyzmq's collector hold, which runs in the same thread."""
    program = f"""
        from gevent import monkey; monkey.patch_all({patches})
        import gzmqsource.green as zmq
        with zmq.Context() as context:
            with context.socket(zmq.PUSH) as sender, context.socket(zmq.PULL) as receiver:
                sender.set_hwm(0); receiver.set_hwm(0)
                receiver.bind("inproc://x"); sender.connect("inproc://x")
                data = bytes(70_000)
                sent = [sender.send(data, copy=False, track=True) for _ in range(5000)]
                got = [receiver.recv(copy=False) for _ in sent]
                del got
                for tracker in sent: tracker.wait(60)
        print(len(sent))
        """
    assert run(program) == ["5000"]


@pytest.mark.processes
def test_a_kill_amid_tracked_sends_leaves_what_libzmq_has_been_lent():
    program = """
        from gevent import monkey; monkey.patch_all()
        import gevent, gzmqsource.green as zmq
        with zmq.Context() as context:
            with context.socket(zmq.PUSH) as sender, context.socket(zmq.PULL) as receiver:
                receiver.bind("inproc://x"); sender.connect("inproc://x")
                def send(letter):
                    return sender.send(letter * 100_000, copy=False, track=True)
                trackers = [send(b"a"), send(b"b")]
                sending = gevent.spawn(send, b"c")
                gevent.sleep(0)
                sending.kill()
                trackers.append(send(b"d"))
                junk = [b"?" * 100_000 for _ in range(100)]
                got = []
                while not got or got[-1][:1] != b"d": got.append(receiver.recv())
                assert all(each == each[:1] * 100_000 and each[:1] in b"abcd" for each in got)
                for tracker in trackers: tracker.wait(20)
        print("whole")
        """
    assert run(program) == ["whole"]
