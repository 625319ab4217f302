"""The drop-in in place of `zmq.green` alone: `zmq` stays as it is."""

import subprocess
import sys

import pytest
from optional import needs
from patching import EXCHANGE, run

pytestmark = [pytest.mark.once, pytest.mark.limit(90)]

SWITCH = "from gzmqsource.monkey import patch_zmq_green; patch_zmq_green()"

#: What a process does to have the drop-in, and where it imports it from.
WAYS = {
    "drop-in": ("", "gzmqsource.green"),
    "switch": (SWITCH, "zmq.green"),
    "patch": ("from gzmqsource.monkey import patch_zmq; patch_zmq()", "zmq.green"),
}


def test_zmq_green_is_the_drop_in_under_each_of_its_names_and_zmq_is_plain():
    program = f"""
import zmq, zmq.green
plain = [zmq.Context, zmq.Socket, zmq.Poller, zmq.proxy, zmq.select, zmq.zmq_poll]
before = zmq.green
{SWITCH}
import zmq.green.core, zmq.green.poll
from zmq.green.device import device
from gzmqsource import green, monkey
assert plain == [zmq.Context, zmq.Socket, zmq.Poller, zmq.proxy, zmq.select, zmq.zmq_poll]
assert before is zmq.green
for name, new in green.REPLACED.items():
    assert getattr(zmq.green, name) is new, name
assert zmq.green.core._Socket is green.Socket and zmq.green.core._Context is green.Context
assert zmq.green.core._Poller is zmq.green.poll._Poller is green.Poller
assert device is green.device
assert monkey.is_patched("zmq.green") and not monkey.is_patched()
assert monkey.get_original("Socket") is zmq.Socket
assert zmq.green.PULL is zmq.PULL
{EXCHANGE.replace("zmq", "zmq.green as zmq", 1)}
exchange()
"""
    assert run(program) == ["cooperative"]


def test_names_and_classes_of_zmq_green_that_are_there_are_replaced_and_those_of_zmq_are_not():
    program = f"""
        import zmq, zmq.green
        from zmq.green import Context, Poller as P, Socket
        from zmq import Socket as PlainSocket
        class Own(zmq.green.Socket):
            pass
        class Plain(zmq.Socket):
            pass
        {SWITCH}
        from gzmqsource import green
        assert (Context, P, Socket) == (green.Context, green.Poller, green.Socket)
        assert issubclass(Own, green.Socket)
        assert PlainSocket is zmq.Socket and Plain.__mro__[1] is zmq.Socket
        """
    assert run(program) == []


@pytest.mark.parametrize("first", ["patch_zmq", "patch_zmq_green"])
def test_the_switch_and_the_patch_go_together_in_either_order(first):
    (second,) = {"patch_zmq", "patch_zmq_green"} - {first}
    program = f"""
        from gzmqsource import green, monkey
        monkey.{first}()
        monkey.{first}()
        import zmq, zmq.green
        assert monkey.is_patched() is ("{first}" == "patch_zmq") and monkey.is_patched("zmq.green")
        monkey.{second}()
        assert monkey.is_patched() and monkey.is_patched("zmq.green")
        assert zmq.Context is zmq.green.Context is green.Context
        assert monkey.get_original("Context").__module__ == "zmq.sugar.context"
        """
    assert run(program) == []


@pytest.mark.parametrize("thread", ["thread=True", "thread=False"])
@pytest.mark.parametrize(("prepare", "module"), WAYS.values(), ids=list(WAYS))
def test_one_context_is_shared_between_zmq_and_zmq_green(prepare, module, thread):
    """As VOLTTRON does."""
    program = f"""
        from gevent import monkey; monkey.patch_all({thread})
        {prepare}
        import gc, gevent, zmq
        import {module} as green
        green.Context._instance = green.Context.shadow(zmq.Context.instance().underlying)
        gc.collect()
        a, b = zmq.Context.instance().socket(zmq.PULL), green.Context.instance().socket(zmq.PUSH)
        a.bind("inproc://x")
        b.connect("inproc://x")
        gevent.spawn(b.send, b"shared").get()
        print(a.recv().decode(), type(b).__module__)
        a.close()
        b.close()
        green.Context.instance().term()
        """
    assert run(program) == ["shared", "gzmqsource.green"]


EVENTLET = f"""
from gzmqsource import green
from eventlet.green import zmq
import eventlet.green.zmq
assert zmq.Context is eventlet.green.zmq.Context is green.Context and zmq.PULL is green.PULL
{EXCHANGE.replace("import gevent, zmq", "import gevent")}
exchange()
"""


@needs("eventlet", extra="servers")
@pytest.mark.parametrize("function", ["patch_zmq", "patch_zmq_green"])
@pytest.mark.parametrize("before", ["", "import eventlet.green.zmq"], ids=["new", "imported"])
def test_so_is_the_zmq_of_eventlet(function, before):
    ignored = "import warnings; warnings.simplefilter('ignore')"  # eventlet is deprecated
    program = f"{ignored}\n{before}\nfrom gzmqsource import monkey; monkey.{function}()\n{EVENTLET}"
    assert run(program) == ["cooperative"]


def test_no_eventlet_is_made_up(tmp_path):
    (tmp_path / "eventlet.py").write_text("raise ImportError('not here')")
    program = f"""
        import importlib
        {SWITCH}
        for name in ("eventlet", "eventlet.green", "eventlet.green.zmq"):
            try:
                importlib.import_module(name)
            except ImportError as error:
                print(error)
        """
    assert run(program, cwd=tmp_path) == ["not", "here"] * 3


def test_a_script_is_run_with_the_switch_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GZMQSOURCE_PATCH", "green")
    script = tmp_path / "script.py"
    script.write_text("import zmq, zmq.green; print(zmq.Context, zmq.green.Context)")
    command = [sys.executable, "-m", "gzmqsource.monkey", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "<class 'zmq.sugar.context.Context'> <class 'gzmqsource.green.Context'>\n"
    )
