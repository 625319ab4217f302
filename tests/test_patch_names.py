"""What a program has named before it was patched, and what cannot be reached."""

import textwrap

import pytest
from patching import EXCHANGE, run

pytestmark = [pytest.mark.once, pytest.mark.limit(90)]

#: A library, imported before the patch.
LIBRARY = """
import functools
import zmq, zmq.asyncio, zmq.green
from zmq import Context, Poller, Socket as OtherName, proxy, zmq_poll
from zmq.devices import ThreadDevice
from zmq.green import Context as GreenContext, device as green_device
import zmq.green as green_module
from zmq.asyncio import Context as AsyncContext

class OwnSocket(zmq.Socket):
    received = 0
    def recv(self, *args, **kwargs):
        self.received += 1
        return super().recv(*args, **kwargs)

class Generic(zmq.Socket[bytes]):
    pass

class OwnContext(zmq.Context):
    _socket_class = OwnSocket

class Deeper(OwnContext):
    pass

class Mixin:
    __slots__ = ()

class Slots(Mixin, zmq.Socket):
    __slots__ = ("place",)

class OwnPoller(zmq.Poller):
    pass

class OwnDevice(ThreadDevice):
    pass

class OwnGreen(zmq.green.Socket):
    pass

class OwnAsync(zmq.asyncio.Context):
    pass

class Config:
    context_class = zmq.Context
    make_context = staticmethod(zmq.Context)
    poll = classmethod(zmq.zmq_poll)

def make(context_class=zmq.Context, *, socket_class=zmq.Socket):
    return context_class, socket_class

def local():
    class Local(zmq.Socket):
        pass
    return Local

hidden = [local()]
poll_later = functools.partial(zmq.zmq_poll, [])
"""

PATCHES = {
    "zmq": "from gzmqsource.monkey import patch_zmq as patch",
    "zmq.green": "from gzmqsource.monkey import patch_zmq_green as patch",
}


@pytest.fixture
def run_with_library(tmp_path):
    (tmp_path / "library.py").write_text(LIBRARY)

    def go(program):
        return run(f"import library\n{textwrap.dedent(program)}", cwd=tmp_path)

    return go


def test_names_imported_before_are_replaced_wherever_they_can_be_seen(run_with_library):
    program = """
        from gzmqsource import green
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        assert library.Context is library.GreenContext is green.Context
        assert library.Poller is green.Poller and library.OtherName is green.Socket
        assert library.proxy is green.proxy and library.zmq_poll is green.zmq_poll
        assert library.green_device is green.device
        assert library.green_module.Poller is green.Poller
        assert library.ThreadDevice is green.ThreadDevice
        assert library.Config.context_class is green.Context
        assert library.Config.make_context is green.Context
        assert library.Config.poll.__func__ is green.zmq_poll
        assert library.poll_later.func is green.zmq_poll and library.poll_later.args == ([],)
        assert library.make() == (green.Context, green.Socket)
        assert library.make.__kwdefaults__ == {"socket_class": green.Socket}
        """
    assert run_with_library(program) == []


def test_classes_derived_before_are_cooperative_whatever_their_form(run_with_library):
    program = f"""
{EXCHANGE}
import zmq
from gzmqsource import green
from gzmqsource.monkey import patch_zmq; patch_zmq()
for cls in (library.OwnSocket, library.Generic, library.Slots, library.OwnGreen, library.hidden[0]):
    assert issubclass(cls, green.Socket), cls
assert issubclass(library.OwnPoller, green.Poller)
assert issubclass(library.OwnDevice, green.ThreadDevice)
contexts = [library.OwnContext, library.Deeper]
for socket_class in (library.Generic, library.Slots, library.OwnGreen, library.hidden[0]):
    contexts.append(type("Made", (library.Context,), dict(_socket_class=socket_class)))
for zmq.Context in contexts:
    exchange()
with library.Deeper() as context, context.socket(zmq.PUSH) as socket:
    poller = library.OwnPoller()
    poller.register(socket, zmq.POLLOUT)
    import gevent
    ticks = gevent.spawn(gevent.sleep, 0.01)
    assert poller.poll(50) == [] and ticks.ready()
    assert type(socket) is library.OwnSocket
"""
    assert run_with_library(program) == ["cooperative"] * 6


def test_objects_of_derived_classes_are_cooperative_from_the_patch_on(run_with_library):
    program = """
        import gevent, zmq
        context, poller = library.Deeper(), library.OwnPoller()
        a, b = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        a.bind("inproc://x")
        b.connect("inproc://x")
        b.send(b"before")
        poller.register(a, zmq.POLLIN)
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        print(a.recv().decode())
        gevent.spawn_later(0.01, b.send, b"polled")
        assert poller.poll(5000) == [(a, zmq.POLLIN)]
        print(a.recv().decode())
        gevent.spawn_later(0.01, b.send, b"received")
        a.rcvtimeo = 5000
        print(a.recv().decode(), a.received)
        context.destroy()
        """
    assert run_with_library(program) == ["before", "polled", "received", "3"]


def test_asyncio_keeps_the_plain_classes_and_so_do_those_derived_from_its(run_with_library):
    program = """
        import zmq.asyncio
        from gzmqsource import green
        from gzmqsource.monkey import get_original, patch_zmq; patch_zmq()
        assert library.AsyncContext is zmq.asyncio.Context
        for cls in (zmq.asyncio.Context, zmq.asyncio.Socket, zmq.asyncio.Poller, library.OwnAsync):
            assert not any(base in green.REPLACED.values() for base in cls.__mro__), cls
        import asyncio
        async def exchange():
            with library.OwnAsync() as context:
                with context.socket(zmq.PULL) as a, context.socket(zmq.PUSH) as b:
                    a.bind("inproc://x"); b.connect("inproc://x")
                    await b.send(b"asyncio")
                    print((await a.recv()).decode())
        asyncio.run(exchange())
        plain = get_original("Context")
        assert plain._socket_class is get_original("Socket")
        """
    assert run_with_library(program) == ["asyncio"]


@pytest.mark.parametrize("patch", PATCHES.values(), ids=list(PATCHES))
def test_lazy_modules_and_proxies_are_not_touched(patch):
    program = f"""
        import sys, types, zmq, zmq.green

        class Lazy(types.ModuleType):
            def __getattribute__(self, name):
                print("touched", name)
                return super().__getattribute__(name)
            def __getattr__(self, name):
                print("asked for", name)
                raise AttributeError(name)
            def __setattr__(self, name, value):
                print("set", name)

        class Proxy:
            __slots__ = ()
            def __getattribute__(self, name):
                print("touched", name)
                raise RuntimeError
            def __eq__(self, other):
                print("compared")
                raise RuntimeError
            __hash__ = None

        lazy = Lazy("lazy")
        types.ModuleType.__getattribute__(lazy, "__dict__").update(
            Context=zmq.green.Context, proxy=Proxy()
        )
        sys.modules.update(lazy=lazy, proxied=Proxy(), absent=None)
        {patch}; patch()
        from gzmqsource import green
        assert types.ModuleType.__getattribute__(lazy, "__dict__")["Context"] is green.Context
        print("done")
        """
    assert run(program) == ["done"]


def test_a_class_that_cannot_be_given_a_new_base_is_named_in_a_warning():
    program = """
        import warnings, zmq

        class Fixed(type):
            def mro(cls):
                found = super().mro()
                if len(found) > 2 and "gzmqsource" in found[1].__module__:
                    raise TypeError("fixed")
                return found

        class Poller(zmq.Poller, metaclass=Fixed):
            pass

        from gzmqsource.monkey import patch_zmq
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            patch_zmq()
        (warning,) = caught
        print(warning.category.__name__, "__main__.Poller" in str(warning.message))
        print(warning.filename)
        """
    assert run(program) == ["RuntimeWarning", "True", "<string>"]


OPEN = {
    "zmq": ["zmq.Context", "zmq.Socket", "zmq.green.Context", "zmq.green.Socket"],
    "zmq.green": ["zmq.green.Context", "zmq.green.Socket"],
}


@pytest.mark.parametrize("module", list(PATCHES))
def test_what_is_open_at_the_patch_is_warned_of_with_its_kind(module):
    program = f"""
        import os, warnings, zmq, zmq.asyncio, zmq.green
        from gzmqsource import Source, green
        contexts = [zmq.Context(), zmq.green.Context(), green.Context(), zmq.asyncio.Context()]
        sockets = [context.socket(zmq.PULL) for context in contexts]
        plain, greens = type(sockets[0]), type(sockets[1])
        sockets += [contexts[2].socket(zmq.PULL, socket_class=cls) for cls in [plain, greens]]
        source = Source.open(zmq.PULL, context=contexts[0])
        {PATCHES[module]}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            patch()
        for warning in caught:
            number, kind = str(warning.message).split(" but ")[1].split()[:2]
            assert number == "1" and str(warning.message).startswith("{module} is patched")
            print(kind, flush=True)
        os._exit(0)
        """
    assert sorted(run(program)) == OPEN[module]


def test_pyzmqs_inner_modules_use_their_own_classes_as_before(run_with_library):
    program = """
        from gzmqsource.monkey import get_original, patch_zmq; patch_zmq()
        import zmq.sugar.context, zmq.sugar.poll, zmq.sugar.socket, zmq.sugar.tracker
        PlainContext, PlainSocket, PlainPoller, PlainTracker, select = map(
            get_original, ("Context", "Socket", "Poller", "MessageTracker", "select"))
        with PlainContext() as context:
            shadow = PlainContext(context)
            assert shadow.underlying == context.underlying
            for made in context, shadow:
                with made.socket(zmq.PUSH) as push, made.socket(zmq.PULL) as pull:
                    assert type(push) is PlainSocket and type(push)._poller_class is PlainPoller
                    pull.bind("tcp://127.0.0.1:*")
                    push.connect(pull.last_endpoint.decode())
                    tracker = push.send(b"x", copy=False, track=True)
                    PlainTracker(tracker)
                    assert select([pull], [], [], 5)[0] == [pull]
                    assert pull.recv() == b"x"
        """
    assert run_with_library(program) == []


def test_this_packages_own_modules_use_plain_classes_whenever_they_are_imported():
    program = """
        import importlib, pkgutil, sys
        from gzmqsource import green
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        import gzmqsource
        for found in pkgutil.walk_packages(gzmqsource.__path__, "gzmqsource."):
            if not found.name.endswith("__main__"):
                try:
                    importlib.import_module(found.name)
                except ImportError:
                    continue  # an extra is not installed
        meant = ("gzmqsource.green", "gzmqsource.monkey._authenticator")
        for name, module in list(sys.modules.items()):
            if name.startswith("gzmqsource.") and not name.startswith(meant):
                for each, value in vars(module).items():
                    if value in list(green.REPLACED.values()):
                        print(f"{name}.{each}")
        """
    assert run(program) == []
