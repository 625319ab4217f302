"""Programs that use zmq for themselves, from their packages, unmodified: drop-in and patch.

They run once. `test_servers` has programs that run over each loop and transfer.
"""

import sys

import gevent
import pytest
from optional import needs
from test_servers import PATCHED, match, running

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(120)]

#: Runs a program that says ``zmq.green`` over the drop-in, and leaves `zmq` as it is.
DROP_IN = """
import runpy, sys
import zmq.green
from gzmqsource import green

for name, new in green.REPLACED.items():
    setattr(zmq.green, name, new)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

FORMS = {"drop-in": [sys.executable, "-c", DROP_IN], "patched": PATCHED}


@pytest.fixture
def complete(tmp_path):
    """Run a server and a client of it, with the same arguments; the client must complete."""

    def run(form, server, client, *arguments):
        for name, program in (("server", server), ("client", client)):
            (tmp_path / f"{name}.py").write_text(program)
        command = FORMS[form]
        with running([*command, "server.py", *arguments], cwd=tmp_path) as serving:
            addresses = match(serving, r"^ready (.*)")[1].replace("\0", "").split()
            asking = [*command, "client.py", *addresses, *arguments]
            with running(asking, cwd=tmp_path) as client_process:
                match(client_process, "complete")
                with gevent.Timeout(30):
                    assert client_process.wait() == 0

    return run


# tinyrpc

TINYRPC_SERVER = """
import gevent
import zmq.green as zmq
from tinyrpc.dispatch import RPCDispatcher, public
from tinyrpc.protocols.jsonrpc import JSONRPCProtocol
from tinyrpc.server.gevent import RPCServerGreenlets
from tinyrpc.transports.zmq import ZmqServerTransport

class Service:
    @public
    def add(self, a, b):
        return a + b

    @public
    def slow(self, seconds):
        gevent.sleep(seconds)
        return "slept"

    @public
    def fail(self):
        raise ValueError("as asked")

dispatcher = RPCDispatcher()
dispatcher.register_instance(Service())
transport = ZmqServerTransport.create(zmq.Context(), "tcp://127.0.0.1:*")
assert type(transport.socket).__module__ == "gzmqsource.green"
print("ready", transport.socket.last_endpoint.decode(), flush=True)
RPCServerGreenlets(transport, JSONRPCProtocol(), dispatcher).serve_forever()
"""

TINYRPC_CLIENT = """
import sys
import gevent
import zmq.green as zmq
from tinyrpc import RPCClient
from tinyrpc.exc import RPCError
from tinyrpc.protocols.jsonrpc import JSONRPCProtocol
from tinyrpc.transports.zmq import ZmqClientTransport

context = zmq.Context()
endpoint, *timeout = sys.argv[1:]

def call(number):
    transport = ZmqClientTransport.create(context, endpoint, *map(float, timeout))
    service = RPCClient(JSONRPCProtocol(), transport).get_proxy()
    assert [service.add(number, k) for k in range(50)] == [number + k for k in range(50)]
    assert service.slow(0.3) == "slept"
    try:
        service.fail()
    except RPCError as error:
        assert "as asked" in str(error)
    else:
        raise AssertionError("no error")

gevent.joinall([gevent.spawn(call, number) for number in range(20)], raise_error=True)
print("complete", flush=True)
"""


@needs("tinyrpc", extra="servers")
@pytest.mark.parametrize(
    ("form", "timeout"),
    # With a timeout, tinyrpc polls with `zmq.Poller`, which only the patch replaces.
    [("drop-in", []), ("patched", []), ("patched", ["20"])],
)
def test_tinyrpc_answers_many_greenlets_at_a_time(complete, form, timeout):
    complete(form, TINYRPC_SERVER, TINYRPC_CLIENT, *timeout)


# circus

CIRCUS_SERVER = """
import socket, sys
from circus import get_arbiter

def free_endpoint():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"

control, events = free_endpoint(), free_endpoint()
sleeper = {
    "name": "sleeper",
    "cmd": sys.executable,
    "args": ["-c", "import time; time.sleep(600)"],
    "numprocesses": 2,
    "graceful_timeout": 5,
}
arbiter = get_arbiter([sleeper], controller=control, pubsub_endpoint=events, check_delay=0.5)
print("ready", control, events, flush=True)
arbiter.start()
"""

CIRCUS_CLIENT = """
import importlib, os, signal, sys
import gevent

control, events, package = sys.argv[1:]
CircusClient = importlib.import_module(f"{package}.client").CircusClient
CircusConsumer = importlib.import_module(f"{package}.consumer").CircusConsumer

def ask(command, **properties):
    client = CircusClient(endpoint=control, timeout=20)
    assert type(client.socket).__module__ == "gzmqsource.green"
    try:
        return client.send_message(command, **properties)
    finally:
        client.stop()

def pids():
    return sorted(ask("list", name="sleeper")["pids"])

def spawned():
    with CircusConsumer(["watcher."], endpoint=events) as consumer:
        for topic, _ in consumer:
            if topic == b"watcher.sleeper.spawn":
                return

asked = [gevent.spawn(pids) for _ in range(10)]
first, *others = [greenlet.get() for greenlet in asked]
assert len(first) == 2 and all(other == first for other in others)

# The arbiter refuses a command while it carries out another one.
watching = gevent.spawn(spawned)
wanted = 2
while not watching.ready():  # the first may come before the subscription
    wanted += ask("incr", name="sleeper")["status"] == "ok"
    watching.join(0.5)
while len(pids()) < wanted:
    gevent.sleep(0.05)
os.kill(first[0], signal.SIGKILL)
while first[0] in pids() or len(pids()) < wanted:
    gevent.sleep(0.05)
while ask("quit")["status"] != "ok":
    gevent.sleep(0.05)
print("complete", flush=True)
"""


@needs("circus", extra="servers")
@pytest.mark.parametrize(
    ("form", "package"),
    [("drop-in", "circus.green"), ("patched", "circus.green"), ("patched", "circus")],
)
def test_circus_obeys_clients_and_tells_consumers(complete, form, package):
    complete(form, CIRCUS_SERVER, CIRCUS_CLIENT, package)


# pyleco

PYLECO_SERVER = """
import socket
from pyleco.coordinators.coordinator import Coordinator

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
coordinator = Coordinator(namespace="N1", host="localhost", port=port)
print("ready", port, flush=True)
coordinator.routing()
"""

PYLECO_CLIENT = """
import sys, threading
import zmq
from pyleco.actors.actor import Actor
from pyleco.directors.director import Director
from pyleco.utils.listener import Listener

where = {"host": "localhost", "port": int(sys.argv[1])}
stopping, connected = threading.Event(), threading.Event()
results = {}

class Device:
    value = 0

    def double(self, number):
        return 2 * number

def act():
    with Actor("actor", Device, **where) as actor:
        assert type(actor.socket).__module__ == "gzmqsource.green"
        actor.connect()
        connected.set()
        actor.listen(stop_event=stopping)

def direct(number):
    # It waits 0.1 s for each answer if it is not told otherwise.
    with Director("actor", name=f"director{number}", timeout=20, **where) as director:
        doubled = [director.call_action("double", k) for k in range(30)]
        director.set_parameters({"value": 5})
        results[number] = doubled, director.get_parameters(["value"])

acting = threading.Thread(target=act)
acting.start()
assert connected.wait(20)
directing = [threading.Thread(target=direct, args=(number,)) for number in range(5)]
for thread in directing:
    thread.start()
for thread in directing:
    thread.join()
expected = [2 * k for k in range(30)], {"value": 5}
assert results == dict.fromkeys(range(5), expected), results

listener = Listener("listener", timeout=20, **where)
listener.start_listen()
call = {"action": "double", "args": [21]}
assert listener.get_communicator().ask_rpc("actor", "call_action", **call) == 42
listener.close()
stopping.set()
acting.join()
print("complete", flush=True)
"""


@needs("pyleco", extra="servers")
def test_pyleco_routes_between_components_in_threads(complete):
    complete("patched", PYLECO_SERVER, PYLECO_CLIENT)


# bluesky

BLUESKY_SERVER = """
import pathlib, sys
import zmq.auth
from bluesky.callbacks.zmq import Proxy, ServerCurve

curve = None
if sys.argv[1:] == ["curve"]:
    for name in ("proxy", "publisher"):
        zmq.auth.create_certificates(".", name)
    curve = ServerCurve(pathlib.Path("proxy.key_secret"), None, {"127.0.0.1"})
proxy = Proxy("127.0.0.1", "127.0.0.1", in_curve=curve)
addresses = (address.removeprefix("tcp://") for address in (proxy.in_port, proxy.out_port))
print("ready", *addresses, flush=True)
proxy.start()
"""

BLUESKY_CLIENT = """
import asyncio, pathlib, sys, threading
from bluesky.callbacks.zmq import ClientCurve, Publisher, RemoteDispatcher

to_proxy, from_proxy, *secured = sys.argv[1:]
curve = None
if secured == ["curve"]:
    curve = ClientCurve(pathlib.Path("publisher.key_secret"), pathlib.Path("proxy.key"))
TOTAL = 500  # below the high-water mark, at which a PUB socket drops
numbers, subscribed, done = [], threading.Event(), threading.Event()

def take(name, document):
    if name == "start":
        subscribed.set()
        return
    numbers.append(document["seq_num"])
    if len(numbers) == TOTAL:
        done.set()

def dispatch():
    try:
        dispatcher.start()
    except asyncio.CancelledError:
        pass

dispatcher = RemoteDispatcher(from_proxy)
dispatcher.subscribe(take)
dispatching = threading.Thread(target=dispatch)
dispatching.start()
publisher = Publisher(to_proxy, curve_config=curve)
assert type(publisher._socket).__module__ == "gzmqsource.green"
while not subscribed.wait(0.1):
    publisher("start", {"uid": "run", "time": 1})
for number in range(TOTAL):
    publisher("event", {"seq_num": number, "data": {"detector": [number] * 100}})
assert done.wait(20), len(numbers)
assert numbers == list(range(TOTAL))
dispatcher.loop.call_soon_threadsafe(dispatcher._task.cancel)
dispatching.join()
publisher.close()
print("complete", flush=True)
"""


@needs("bluesky", extra="servers")
@pytest.mark.parametrize("secured", [[], ["curve"]], ids=["null", "curve"])
def test_bluesky_dispatches_every_document_in_order(complete, secured):
    complete("patched", BLUESKY_SERVER, BLUESKY_CLIENT, *secured)
