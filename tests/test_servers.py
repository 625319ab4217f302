"""The servers that gevent programs use, from their packages, unmodified, over the drop-in."""

import contextlib
import json
import os
import re
import sys
import textwrap

import gevent
import pytest
import zmq
from gevent import socket, subprocess
from helpers import endpoint_of, free_ports, python_path
from optional import needs

from gzmqsource import green

pytestmark = pytest.mark.processes

PATCHED = [sys.executable, "-m", "gzmqsource.monkey"]


@contextlib.contextmanager
def running(command, **options):
    """Run a server, and end it with the block; its output is one stream of text."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):  # gevent has reaped it, and has yet to say so
            process.terminate()
        try:
            with gevent.Timeout(30):
                process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            assert process.stdout is not None
            process.stdout.close()


def match(process, pattern):
    """Read what a server prints until a line matches."""
    seen: list[str] = []
    with gevent.Timeout(60, False):  # type: ignore[arg-type]  # as gevent documents
        while line := process.stdout.readline():
            seen.append(line)
            if found := re.search(pattern, line):
                return found
    raise AssertionError(f"no {pattern!r} in:\n{''.join(seen)}")


# Locust

LOCUSTFILE = """
import itertools, json, os
import gevent, zmq
from locust import User, constant, events, task

counter = itertools.count(1)
done = 0


class Asking(User):
    wait_time = constant(0.01)

    @task
    def ask(self):
        global done
        gevent.sleep(0.001)
        events.request.fire(
            request_type="zmq", name="ask", response_time=1, response_length=1, exception=None
        )
        done = next(counter)


@events.quitting.add_listener
def tell(environment, **_):
    name = type(environment.runner).__name__
    import zmq.green
    with open(os.path.join(os.environ["OUT"], f"{name}-{os.getpid()}"), "w") as out:
        total = environment.stats.total.num_requests
        json.dump([done, total, zmq.green.Context.__module__], out)
"""


@needs("locust", extra="servers")
@pytest.mark.limit(120)
@pytest.mark.once
def test_a_locust_master_and_two_workers_count_every_request(tmp_path):
    locustfile = tmp_path / "locustfile.py"
    locustfile.write_text(LOCUSTFILE)
    port = str(free_ports(1)[0])
    locust = [*PATCHED, "--module", "locust", "-f", str(locustfile)]
    environment = {"env": {**os.environ, "OUT": str(tmp_path)}}
    where = ["--master-host", "127.0.0.1", "--master-port", port]
    master = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    master += ["--headless", "--expect-workers", "2", "-u", "20", "-r", "20", "-t", "3s"]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running([*locust, *master], **environment))
        workers = [
            stack.enter_context(running([*locust, "--worker", *where], **environment))
            for _ in range(2)
        ]
        match(process, "All users spawned|Spawning is complete")  # the latter if a report is late
        match(process, "Shutting down")
        with gevent.Timeout(60):
            assert [one.wait() for one in (process, *workers)] == [0, 0, 0]
    results = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*Runner*")}
    assert len(results) == 3
    assert {module for _, _, module in results.values()} == {"gzmqsource.green"}
    made = sum(done for name, (done, _, _) in results.items() if name.startswith("Worker"))
    (counted,) = (total for name, (_, total, _) in results.items() if name.startswith("Master"))
    assert made > 100
    assert counted == made


# zerorpc

RPC_SERVER = """
import sys
import gevent, zerorpc, zmq

class Service:
    def add(self, a, b):
        return a + b

    def slow(self, seconds):
        gevent.sleep(seconds)
        return "slept"

    def fail(self):
        raise ValueError("as asked")

    @zerorpc.stream
    def count(self, limit):
        return iter(range(limit))

server = zerorpc.Server(Service(), heartbeat=2)
server.bind("tcp://127.0.0.1:0")
endpoint = server._events._socket.getsockopt(zmq.LAST_ENDPOINT).decode()
print(zmq.Socket.__module__, endpoint, flush=True)
server.run()
"""

RPC_CLIENT = """
import sys
import gevent, zerorpc

client = zerorpc.Client(sys.argv[1], heartbeat=2, timeout=30)
calls = [gevent.spawn(client.add, number, number) for number in range(200)]
assert [call.get() for call in calls] == [2 * number for number in range(200)]
slow = gevent.spawn(client.slow, 5)
assert list(client.count(2000)) == list(range(2000))
try:
    client.fail()
except zerorpc.RemoteError as error:
    assert error.name == "ValueError"
assert slow.get() == "slept"
client.close()
print("complete", flush=True)
"""


@needs("zerorpc", extra="servers")
@pytest.mark.limit(120)
def test_zerorpc_calls_heartbeats_and_streams_complete(tmp_path):
    for name, program in (("server", RPC_SERVER), ("client", RPC_CLIENT)):
        (tmp_path / f"{name}.py").write_text(program)
    with running([*PATCHED, str(tmp_path / "server.py")]) as server:
        endpoint = match(server, r"gzmqsource\.green (tcp:\S+)")[1].rstrip("\0")
        with running([*PATCHED, str(tmp_path / "client.py"), endpoint]) as client:
            match(client, "complete")
            with gevent.Timeout(30):
                assert client.wait() == 0


# Flask

APP = """
import os
import flask, zmq

app = flask.Flask(__name__)
context = None


@app.route("/<int:number>")
def ask(number):
    global context
    context = context or zmq.Context()
    with context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(os.environ["BACKEND"])
        socket.send(b"%d" % number)
        return f"{os.getpid()} {socket.recv().decode()} {type(socket).__module__}"
"""

PYWSGI = """
from gevent.pywsgi import WSGIServer
from application import app

server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()
print(f"Listening at: http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""


def bound_router():
    """Return a context and a bound ROUTER of its."""
    context: green.Context[green.Socket[bytes]] = green.Context()
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    router.bind("tcp://127.0.0.1:*")
    return context, router


@pytest.fixture
def backend():
    """A ROUTER that answers each request with its double, 10 ms later."""
    context, router = bound_router()

    def answer(envelope, number):
        gevent.sleep(0.01)
        router.send_multipart([*envelope, b"%d" % (2 * int(number))])

    def serve():
        while True:
            *envelope, number = router.recv_multipart()
            gevent.spawn(answer, envelope, number)

    serving = gevent.spawn(serve)
    yield endpoint_of(router)
    serving.kill()
    router.close()
    context.term()


def get(port, number):
    """Make one HTTP request; the words of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /%d HTTP/1.0\r\nHost: localhost\r\n\r\n" % number)
        with connection.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"200", (head, body)
    return body.decode().split()


GUNICORN = "gunicorn -w 2 -k gzmqsource.gunicorn.Worker -b 127.0.0.1:0 application:app"

SERVERS = {
    "gunicorn": [sys.executable, "-m", *GUNICORN.split()],
    # The application is imported before the fork and before the patch.
    "gunicorn, preloaded": [sys.executable, "-m", *GUNICORN.split(), "--preload"],
    "pywsgi": [*PATCHED, "serve.py"],
}


@needs("flask", "gunicorn", extra="servers")
@pytest.mark.limit(120)
@pytest.mark.once
@pytest.mark.parametrize("command", SERVERS.values(), ids=list(SERVERS))
def test_flask_asks_a_backend_in_each_request(tmp_path, backend, command):
    (tmp_path / "application.py").write_text(APP)
    (tmp_path / "serve.py").write_text(textwrap.dedent(PYWSGI))
    environment = {**os.environ, "BACKEND": backend, "PYTHONPATH": python_path(".")}
    with running(command, cwd=tmp_path, env=environment) as server:
        port = int(match(server, r"Listening at: http://127.0.0.1:(\d+)")[1])
        workers = {server.pid}
        if "gunicorn" in command:
            workers = {int(match(server, r"Booting worker with pid: (\d+)")[1]) for _ in range(2)}
        asking = [gevent.spawn(get, port, number) for number in range(200)]
        answers = [greenlet.get(timeout=30) for greenlet in asking]
    assert [int(double) for _, double, _ in answers] == [2 * number for number in range(200)]
    assert {module for _, _, module in answers} == {"gzmqsource.green"}
    # The kernel chooses which worker of several gets a connection.
    assert {int(pid) for pid, _, _ in answers} <= workers
