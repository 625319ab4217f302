"""``patch_zmq``: each program runs in a process of its own, for it patches for good."""

import subprocess
import sys

import pytest
from optional import needs
from patching import EXCHANGE, run

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(90)]


def test_patched_early_every_socket_is_cooperative():
    program = f"from gzmqsource.monkey import patch_zmq; patch_zmq()\n{EXCHANGE}\nexchange()"
    assert run(program) == ["cooperative"]


def test_patched_late_it_reaches_what_was_imported_before():
    program = f"""
import zmq, zmq.green, zmq.devices, zmq.utils.monitor
import zmq.auth.thread, zmq.log.handlers
from gzmqsource import green
from gzmqsource.monkey import patch_zmq
patch_zmq()
assert zmq.Context is zmq.green.Context is zmq.log.handlers.zmq.Context is green.Context
assert zmq.devices.ThreadDevice is green.ThreadDevice
{EXCHANGE}
exchange()
"""
    assert run(program) == ["cooperative"]


@pytest.mark.parametrize("how", ["zmq.Context()", "zmq.Context.instance()"])
def test_contexts_that_were_made_before_are_warned_of(how):
    program = f"""
        import warnings, zmq
        context = {how}
        from gzmqsource.monkey import patch_zmq
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            patch_zmq()
        (warning,) = caught
        print(warning.category.__name__, "zmq.Context" in str(warning.message))
        print(warning.filename)
        """
    assert run(program) == ["RuntimeWarning", "True", "<string>"]


def test_a_closed_context_is_no_reason_to_warn():
    program = """
        import zmq
        zmq.Context().term()
        from gzmqsource.monkey import patch_zmq
        patch_zmq()
        """
    assert run(program) == []


def test_patching_twice_does_nothing_and_the_originals_stay_known_also_after_a_reload():
    program = """
        import zmq
        kept = [zmq.Socket]  # in a container, where the patch does not look
        from gzmqsource.monkey import get_original, is_patched, patch_zmq
        assert not is_patched() and get_original("Socket") is kept[0]
        patch_zmq()
        green = zmq.Socket
        assert green is not kept[0]
        patch_zmq()
        assert zmq.Socket is green and is_patched()
        assert get_original("Socket") is kept[0] and get_original("PULL") is zmq.PULL
        import importlib, gzmqsource.monkey
        again = importlib.reload(gzmqsource.monkey)
        again.patch_zmq()
        assert again.is_patched() and again.get_original("Socket") is kept[0]
        try:
            get_original("Nothing")
        except AttributeError as error:
            print("Nothing" in str(error))
        """
    assert run(program) == ["True"]


def test_a_thread_that_patches_meanwhile_waits_and_keeps_the_originals():
    program = """
        import threading, zmq
        from gzmqsource.monkey import get_original, patch_zmq

        plain = [zmq.Socket]
        other = threading.Thread(target=patch_zmq)

        class Kind(type):
            def mro(cls):
                # The class gets its new base, once the names are replaced.
                if "Mine" in globals() and other.ident is None:
                    other.start()
                    other.join(0.5)
                return super().mro()

        class Mine(zmq.Socket, metaclass=Kind):
            pass

        patch_zmq()
        other.join()
        assert get_original("Socket") is plain[0]
        print("original")
    """
    assert run(program) == ["original"]


@needs("tornado", extra="servers")
def test_asyncio_and_zmqstream_work_after_it():
    program = """
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        import asyncio, zmq, zmq.asyncio
        from tornado.ioloop import IOLoop
        from zmq.eventloop.zmqstream import ZMQStream
        from gzmqsource import monkey

        async def exchange():
            context = zmq.asyncio.Context()
            a, b = context.socket(zmq.PULL), context.socket(zmq.PUSH)
            a.bind("inproc://x"); b.connect("inproc://x")
            receiving = asyncio.ensure_future(a.recv())
            await asyncio.sleep(0.01)
            await b.send(b"asyncio")
            print((await receiving).decode())
            poller = zmq.asyncio.Poller()
            poller.register(a, zmq.POLLIN)
            await b.send(b"more")
            assert await poller.poll(1000) == [(a, zmq.POLLIN)]
            plain = monkey.get_original("Context")()
            c, d = plain.socket(zmq.PULL), plain.socket(zmq.PUSH)
            c.bind("inproc://y"); d.connect("inproc://y")
            stream, got = ZMQStream(c), asyncio.Event()
            stream.on_recv(lambda message: (print(message[0].decode()), got.set()))
            await asyncio.sleep(0.01)
            d.send(b"stream")
            await asyncio.wait_for(got.wait(), 5)
            stream.close(); d.close(); plain.term()
            a.close(0); b.close(0); context.term()

        asyncio.run(exchange())
        """
    assert run(program) == ["asyncio", "stream"]


def test_the_gevent_plugin_follows_patch_all():
    program = f"""
from gevent import monkey
monkey.patch_all(zmq=True)
from gzmqsource.monkey import is_patched
print(is_patched())
{EXCHANGE}
exchange()
"""
    assert run(program) == ["True", "cooperative"]


@pytest.mark.parametrize("call", ["patch_all()", "patch_all(zmq=False)"])
def test_the_plugin_patches_nothing_unasked(call):
    program = f"""
        from gevent import monkey
        monkey.{call}
        import gzmqsource.monkey
        print(gzmqsource.monkey.is_patched())
        """
    assert run(program) == ["False"]


@pytest.mark.parametrize("options", [[], ["--no-thread"]], ids=["all", "no-thread"])
def test_a_script_runs_patched_with_its_arguments(tmp_path, options):
    script = tmp_path / "script.py"
    script.write_text(
        EXCHANGE
        + "import sys, threading\nfrom gevent.monkey import is_module_patched\n"
        + "print(*sys.argv[1:], __name__, is_module_patched('threading'))\nexchange()\n"
    )
    command = [sys.executable, "-m", "gzmqsource.monkey", *options, str(script), "--flag", "value"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    wanted = ["--flag", "value", "__main__", str(not options), "cooperative"]
    assert done.stdout.split() == wanted


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
def test_the_legacy_example_is_the_same_plain_and_patched(patched):
    prefix = ["-m", "gzmqsource.monkey"] if patched else []
    done = subprocess.run(
        [sys.executable, *prefix, "examples/legacy.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("200 answers")
    assert ("gzmqsource.green" in done.stdout) == patched


THREADS = ["thread=True", "thread=False"]


@pytest.mark.parametrize("thread", THREADS)
def test_frames_that_are_not_copied_are_let_go_of(thread):
    """pyzmq's collector waits for libzmq on a thread, which patching makes a greenlet."""
    program = f"""
        from gevent import monkey; monkey.patch_all({thread})
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        import gevent, sys, zmq
        with zmq.Context() as context, context.socket(zmq.PULL) as a, context.socket(zmq.PUSH) as b:
            a.bind("tcp://127.0.0.1:*"); b.connect(a.LAST_ENDPOINT.decode())
            data = b"x" * 1_000_000
            before = sys.getrefcount(data)
            for _ in range(3):
                tracker = b.send(data, copy=False, track=True)
                assert a.recv() == data
                tracker.wait(5)
            with gevent.Timeout(5):
                while sys.getrefcount(data) > before:
                    gevent.sleep(0.001)
            print("collected")
        """
    assert run(program) == ["collected"]


@pytest.mark.parametrize("thread", THREADS)
def test_the_thread_authenticator_and_the_log_handler_work(thread):
    program = f"""
        from gevent import monkey; monkey.patch_all({thread})
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        import gevent, logging, zmq
        from zmq.auth.thread import ThreadAuthenticator
        from zmq.log.handlers import PUBHandler
        context = zmq.Context()
        authenticator = ThreadAuthenticator(context)
        authenticator.start()
        authenticator.configure_plain(domain="*", passwords={{"me": "secret"}})
        server, client = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        server.plain_server = True
        client.plain_username, client.plain_password = b"me", b"secret"
        server.bind("tcp://127.0.0.1:*")
        client.connect(server.LAST_ENDPOINT.decode())
        client.send(b"authenticated")
        server.rcvtimeo = 5000
        print(server.recv().decode())
        authenticator.stop()
        subscriber, publisher = context.socket(zmq.SUB), context.socket(zmq.PUB)
        publisher.bind("inproc://log")
        subscriber.connect("inproc://log")
        subscriber.subscribe(b"")
        subscriber.rcvtimeo = 5000
        logger = logging.getLogger("x")
        logger.addHandler(PUBHandler(publisher))
        logger.warning("logged")
        print(subscriber.recv_multipart()[1].decode().split()[-1])
        context.destroy(0)
        """
    assert run(program) == ["authenticated", "logged"]


@pytest.mark.parametrize("thread", THREADS)
def test_the_thread_authenticator_leaves_asyncio_to_others(thread):
    program = f"""
        from gevent import monkey; monkey.patch_all({thread})
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        import asyncio, threading, zmq
        from zmq.auth.thread import ThreadAuthenticator

        async def callback(domain, key):
            await asyncio.sleep(0.001)
            return key == client_public

        class Provider:
            def callback(self, domain, key):
                return asyncio.ensure_future(callback(domain, key))

        def run(name):
            print(asyncio.run(asyncio.sleep(0.001, name)))

        server_public, server_secret = zmq.curve_keypair()
        client_public, client_secret = zmq.curve_keypair()
        for turn in range(2):
            with zmq.Context() as context:
                authenticator = ThreadAuthenticator(context)
                authenticator.start()
                authenticator.configure_curve_callback(credentials_provider=Provider())
                thread = threading.Thread(target=run, args=["thread"])
                thread.start()
                thread.join()
                run("main")
                with context.socket(zmq.PULL) as a, context.socket(zmq.PUSH) as b:
                    a.curve_server, a.curve_secretkey = True, server_secret
                    b.curve_serverkey = server_public
                    b.curve_publickey, b.curve_secretkey = client_public, client_secret
                    a.rcvtimeo = 5000
                    a.bind("tcp://127.0.0.1:*")
                    b.connect(a.LAST_ENDPOINT.decode())
                    b.send(b"authenticated")
                    print(a.recv().decode())
                assert authenticator.is_alive()
                authenticator.stop()
                assert not authenticator.is_alive()
        """
    assert run(program) == ["thread", "main", "authenticated"] * 2


def test_the_thread_authenticator_leaves_nothing_and_has_the_instance_for_its_context():
    program = """
        from gevent import monkey; monkey.patch_all()
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        import os, zmq
        from zmq.auth.thread import ThreadAuthenticator
        descriptors = []
        for turn in range(3):
            authenticator = ThreadAuthenticator()
            assert authenticator.context is zmq.Context.instance()
            authenticator.start()
            authenticator.stop()
            authenticator.context.term()
            descriptors.append(len(os.listdir("/proc/self/fd")))
        print(descriptors[2] - descriptors[0])
        """
    assert run(program) == ["0"]


def test_an_error_in_the_authenticators_thread_is_reported_as_a_threads():
    program = """
        from gevent import monkey; monkey.patch_all()
        from gzmqsource.monkey import patch_zmq; patch_zmq()
        import threading, zmq
        from zmq.auth.thread import ThreadAuthenticator
        context = zmq.Context()
        authenticator = ThreadAuthenticator(context)
        reported = []
        threading.excepthook = reported.append
        authenticator.handle_zap_message = None
        authenticator.start()
        with context.socket(zmq.PULL) as a, context.socket(zmq.PUSH) as b:
            a.plain_server = True
            b.plain_username = b.plain_password = b"x"
            a.bind("tcp://127.0.0.1:*")
            b.connect(a.LAST_ENDPOINT.decode())
            authenticator.thread.join(10)
            print(reported[0].exc_type.__name__, not authenticator.is_alive())
            b.linger = 0
        authenticator.pipe.close(0)
        authenticator.pipe = None
        authenticator.stop()
        context.term()
        """
    assert run(program) == ["TypeError", "True"]
