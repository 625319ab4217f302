"""``import gzmqsource.green as zmq`` is `zmq` by name, by type and in print."""

import os
import pathlib
import sys
import types

import pytest
import zmq
import zmq.green
from gevent import subprocess
from optional import needs

import gzmqsource
from gzmqsource import green

#: What `zmq` imports for itself, and a type checker does not see as its own.
OTHERS = {"annotations", "contextmanager", "os", "sys"}


def names_of(module):
    """The public names of a module, but not those of folders that only some programs import."""
    return {
        name
        for name, value in vars(module).items()
        if (not name.startswith("_") or name in module.__all__)
        and name not in OTHERS
        and not isinstance(value, types.ModuleType)
    }


def test_every_name_of_zmq_and_of_its_green_is_there():
    assert names_of(zmq) | set(zmq.green.__all__) <= names_of(green)
    for name in names_of(zmq) - set(green.REPLACED):
        assert getattr(green, name) is getattr(zmq, name), name


def test_a_star_import_brings_what_it_brings_from_zmq_and_what_replaces_it():
    namespace: dict[str, object] = {}
    exec("from gzmqsource.green import *", namespace)
    brought = namespace.keys() - {"__builtins__"}
    assert brought == set(vars(green)["__all__"]) == set(zmq.__all__) | set(green.REPLACED)
    assert all(namespace[name] is new for name, new in green.REPLACED.items())


@pytest.mark.parametrize("module", [zmq, green], ids=["zmq", "green"])
def test_a_repr_names_the_class(module):
    OwnContext = type("OwnContext", (module.Context,), {"__module__": "own"})
    OwnSocket = type("OwnSocket", (module.Socket,), {"__module__": "own"})
    name = module.__name__
    with module.Context() as context, context.socket(zmq.PULL) as socket:
        assert repr(context).startswith(f"<{name}.Context(1 socket) at 0x")
        assert repr(socket).startswith(f"<{name}.Socket(zmq.PULL) at 0x")
        with OwnSocket(context, zmq.PULL) as own:
            assert repr(own).startswith("<own.OwnSocket(zmq.PULL) at 0x")
    with OwnContext() as own:
        assert repr(own).startswith("<own.OwnContext() at 0x")


def test_each_class_says_its_public_module():
    classes = [each for each in green.REPLACED.values() if isinstance(each, type)]
    assert {each.__module__ for each in classes} == {"gzmqsource.green"}


TYPED = """
import gzmqsource.green as zmq
from gzmqsource.green import *

context = zmq.Context(io_threads=2)
socket = context.socket(zmq.PULL)
reveal_type(context)
reveal_type(socket)
reveal_type(zmq.Context().socket(PULL))
reveal_type(zmq.Context(shadow=context))
with Context() as other, other.socket(zmq.SUB) as subscriber:
    reveal_type(subscriber)

def receive(given: "Socket[bytes]", flags: int = zmq.NOBLOCK | zmq.SNDMORE) -> None:
    poller = zmq.Poller()
    poller.register(given, zmq.POLLIN)
    reveal_type(poller)
    try:
        given.recv(flags)
    except Again:
        pass
    except zmq.ZMQError as error:
        reveal_type(error.errno)

receive(socket)
reveal_type(zmq.constants.PULL)
reveal_type(zmq.MessageTracker())
"""

#: What a type checker finds in the program above, in order.
FOUND = """
gzmqsource.green._context.Context[gzmqsource.green._socket.Socket[bytes]]
gzmqsource.green._socket.Socket[bytes]
gzmqsource.green._socket.Socket[bytes]
gzmqsource.green._context.Context[gzmqsource.green._socket.Socket[bytes]]
gzmqsource.green._socket.Socket[bytes]
gzmqsource.green._poll.Poller
int | None
zmq.constants.SocketType
gzmqsource.green._tracker.MessageTracker
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What mypy says about a right program and a wrong one, line by line.

    One run: most of its time goes into what both import.
    """
    folder = tmp_path_factory.mktemp("typed")
    names = "".join(f"zmq.{name}\n" for name in sorted(names_of(green)))
    (folder / "right.py").write_text(TYPED + names)
    (folder / "wrong.py").write_text("import gzmqsource.green as zmq\nzmq.PUUL\n")
    package = pathlib.Path(gzmqsource.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", "right.py", "wrong.py"],
        cwd=folder,
        # mypy does not follow the finder of an editable install.
        env={**os.environ, "MYPYPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert not done.stderr
    return done.stdout.splitlines()


@needs("mypy", extra="dev")
@pytest.mark.once
@pytest.mark.limit(120)
def test_a_type_checker_knows_every_name_and_the_classes_that_replace_others(checked):
    right = [line for line in checked if not line.startswith("wrong.py:")]
    assert not [line for line in right if ": error:" in line]
    found = [line.split('"')[1] for line in right if "Revealed" in line]
    assert found == FOUND.split("\n")[1:-1]


@needs("mypy", extra="dev")
@pytest.mark.once
@pytest.mark.limit(120)
def test_a_type_checker_finds_a_name_that_is_not_there(checked):
    (error,) = [line for line in checked if line.startswith("wrong.py:")]
    assert 'error: Module has no attribute "PUUL"' in error
