"""Frames that pyzmq has lent to libzmq, as tracked ones are, when the process ends."""

import ctypes

import pytest
import zmq
from helpers import python_process

pytestmark = [
    pytest.mark.once,
    pytest.mark.processes,
    pytest.mark.skipif(
        not hasattr(ctypes.CDLL(None), "__cxa_atexit"), reason="glibc's, as macOS's"
    ),
]

#: As in ``test_lending.py``: C's ``exit`` waits for the end of the input.
ENDING = """
import ctypes, sys
import zmq
from gevent import monkey
form, patched, endpoint = sys.argv[1:]
if patched == "patched":
    monkey.patch_all()
from gzmqsource import Source, green
if form == "source":
    push = Source.open(zmq.PUSH, connect=endpoint, sndbuf=4096)
else:
    push = green.Context.instance().socket(zmq.PUSH)
    push.sndbuf = 4096
    push.connect(endpoint)
for number in range(20):
    frame = b"%d" % (number % 10) * 1_000_000
    if form != "tracked":
        push.send(zmq.Frame(frame, copy=False))
    else:
        push.send(frame, copy=False, track=True)
del frame
process = ctypes.CDLL(None)
process.__cxa_atexit(process.getchar, None, None)
process.__cxa_atexit(process.close, 1, None)
"""


@pytest.mark.parametrize("patched", ["patched", "plain"])
@pytest.mark.parametrize("form", ["tracked", "frame", "source"])
def test_a_process_that_ends_while_tracked_frames_are_lent_sends_them_whole(context, form, patched):
    with context.socket(zmq.PULL) as pull:
        pull.rcvhwm, pull.rcvbuf = 1, 4096
        pull.bind("tcp://127.0.0.1:*")
        endpoint = pull.LAST_ENDPOINT.decode()
        with python_process(ENDING, form, patched, endpoint) as process:
            assert process.stdout.read() == ""
            for number in range(20):
                assert pull.poll(20_000), "the process has died"
                assert pull.recv() == b"%d" % (number % 10) * 1_000_000
            process.stdin.close()
            assert process.wait(20) == 0
