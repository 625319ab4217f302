"""What the package says where it cannot work, and that it is silent where no one uses it."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]

#: What another platform or install has otherwise, by what is said there.
ELSEWHERE = {
    "gzmqsource needs Linux or macOS; on Windows use WSL": """
import gevent.event, gevent.threading, os, random
del os.register_at_fork
""",
    "gevent and gzmqsource need the GIL: leave out PYTHON_GIL=0 and -X gil=0": """
import sys
sys._is_gil_enabled = lambda: False
""",
    "gzmqsource needs pyzmq 25.0 or newer, and this is 24.0.1: pip install --upgrade pyzmq": """
import zmq
zmq.pyzmq_version, zmq.pyzmq_version_info = lambda: "24.0.1", lambda: (24, 0, 1)
""",
}

#: pyzmq's backend as cffi's is, where ``more`` is always False.
CFFI = """
import zmq.backend
Cython = zmq.backend.Socket

class Frame(zmq.Frame):
    more = False

class Socket(Cython):
    __module__ = "zmq.backend.cffi.socket"

    def recv(self, flags=0, copy=True, track=False):
        return Cython.recv(self, flags) if copy else Frame(Cython.recv(self, flags))

zmq.backend.Frame, zmq.backend.Socket = Frame, Socket
"""

EXCHANGE = """
import zmq
from gzmqsource import transfer
print(transfer.reason)
context = zmq.Context()
push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
pull.bind("inproc://here")
push.connect("inproc://here")
push.send_multipart([b"a", b"b", b"c"])
push.send_multipart([b"d", b"e"])
got = []
transfer.transfer_for(pull).receive(got, 1, 1)
transfer.transfer_for(pull).receive(got, 1, 1, False)
print(got[0], [[frame.bytes, frame.more] for frame in got[1]])
context.destroy(0)
"""


CALL_OF_A_THREAD = """
import gevent, threading
from gzmqsource._base.hubs import call_in_hub
called = []
thread = threading.Thread(target=call_in_hub, args=(gevent.get_hub(), called.append, 1))
thread.start()
thread.join()
gevent.sleep(0.01)
print(type(gevent.get_hub().loop).__module__, called)
"""


def python(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "GZMQSOURCE_TRANSFER": "", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("text", list(ELSEWHERE))
@pytest.mark.parametrize("name", ["Source", "green", "monitor", "proxy", "workers"])
def test_the_import_says_what_is_missing(text, name):
    finished = python(f"{ELSEWHERE[text]}from gzmqsource import {name}")
    assert finished.stderr.splitlines()[-1] == f"ImportError: {text}"


@pytest.mark.parametrize("before", ELSEWHERE.values())
def test_a_program_that_patches_and_does_not_use_it_goes_on(before):
    finished = python(f"{before}import gevent.monkey; gevent.monkey.patch_all(); print('on')")
    assert finished.stdout == "on\n"


PATCH_ALL = "import gevent.monkey, sys; gevent.monkey.patch_all(); print(sys.modules.get('zmq'))"


@pytest.mark.parametrize("before", ["", "import sys; sys.modules['zmq'] = None; "])
def test_a_program_that_patches_and_does_not_use_zmq_does_not_load_it(before):
    finished = python(before + PATCH_ALL)
    assert (finished.stdout, finished.stderr) == ("None\n", "")


@pytest.mark.parametrize("use", ["import gzmqsource.green", "PATCH"])
def test_the_drop_in_needs_pyzmqs_backend_in_cython_and_says_so(use):
    use = use.replace("PATCH", "import gzmqsource.monkey; gzmqsource.monkey.patch_zmq()")
    finished = python(CFFI + use)
    assert finished.stderr.splitlines()[-1].startswith(
        "ImportError: gzmqsource.green needs pyzmq's backend in Cython, "
        "and this is zmq.backend.cffi.socket; "
    )


def test_no_compiler_is_asked_for_where_it_would_not_help():
    missing = "import sys; sys.modules['gzmqsource.transfer.native'] = None\n"
    reason = python(CFFI + missing + "from gzmqsource import transfer; print(transfer.reason)")
    assert reason.stdout.endswith(
        "it needs pyzmq's backend in Cython, and this is zmq.backend.cffi.socket\n"
    )


def test_a_message_is_whole_where_frames_do_not_say_that_more_follow():
    reason, got = python(CFFI + EXCHANGE).stdout.splitlines()
    assert reason.endswith(
        "it needs pyzmq's backend in Cython, and this is zmq.backend.cffi.socket"
    )
    assert got == "[b'a', b'b', b'c'] [[b'd', True], [b'e', False]]"


@pytest.mark.parametrize("module", ["gevent.libev.corecffi", "gevent.libuv.loop"])
def test_a_loop_over_cffi_waits_on_after_a_call_of_another_thread(module):
    pytest.importorskip(module)
    finished = python(CALL_OF_A_THREAD, GEVENT_LOOP=f"{module}.loop")
    assert finished.stdout == f"{module} [1]\n", finished.stderr
