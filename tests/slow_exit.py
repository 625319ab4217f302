"""A process that ends while libzmq still sends what it was lent: C's ``exit`` waits for that."""

import ctypes

import pytest
import zmq
from helpers import python_process

needs_atexit_of_c = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "__cxa_atexit"), reason="glibc's, as macOS's"
)

#: Sends to the endpoint in its arguments. Once the interpreter has ended, C's ``exit`` closes its
#: output and waits for the end of its input: libzmq goes on to send what it holds.
_PROGRAM = """
import ctypes, sys
import zmq
from gevent import monkey
patched, owner, form, count, endpoint = sys.argv[1:]
if patched == "patched":
    monkey.patch_all()
from gzmqsource import Source, green
if owner == "source":
    push = Source.open(zmq.PUSH, connect=endpoint, sndbuf=4096)
else:
    push = green.Context.instance().socket(zmq.PUSH)
    push.sndbuf = 4096
    push.connect(endpoint)
for number in range(int(count)):
    frame = b"%d" % (number % 10) * 1_000_000
    if form == "bytes":
        push.send(frame)
    elif form == "frame":
        push.send(zmq.Frame(frame, copy=False))
    else:
        push.send(frame, copy=False, track=True)
del frame
process = ctypes.CDLL(None)
process.__cxa_atexit(process.getchar, None, None)
process.__cxa_atexit(process.close, 1, None)
"""


def check_all_arrives(context, patched, owner, form, count):
    """Run it, and check that all arrives whole, and that it ends well."""
    with context.socket(zmq.PULL) as pull:
        pull.rcvhwm, pull.rcvbuf = 1, 4096
        pull.bind("tcp://127.0.0.1:*")
        arguments = patched, owner, form, str(count), pull.LAST_ENDPOINT.decode()
        with python_process(_PROGRAM, *arguments) as process:
            assert process.stdout.read() == ""
            for number in range(count):
                assert pull.poll(20_000), "the process has died"
                assert pull.recv() == b"%d" % (number % 10) * 1_000_000
            process.stdin.close()
            assert process.wait(20) == 0
