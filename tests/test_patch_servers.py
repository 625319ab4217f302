"""Programs that patch themselves, from their packages, unmodified, with ``GZMQSOURCE_PATCH``.

The backend answers only when as many requests as there are greenlets wait for it: a program whose
hub is blocked by the first request has no answer at all.
"""

import json
import os
import sys

import gevent
import pytest
import zmq
from gevent import socket, subprocess
from helpers import endpoint_of, free_ports, python_path
from optional import needs
from test_servers import bound_router, match, running

from gzmqsource import green

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(120)]

GREENLETS = 20

ASK = """
import os, zmq

context = None

def ask(number):
    global context
    context = context or zmq.Context()
    with context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(os.environ["BACKEND"])
        socket.send_string(str(number))
        return f"{socket.recv_string()} {type(socket).__module__}"
"""

WSGI = """
from asking import ask

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [ask(environ["PATH_INFO"].strip("/")).encode()]
"""

TASKS = """
from celery import Celery
import asking

app = Celery("tasks", broker="filesystem://", backend="file://results")
folders = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app.conf.broker_transport_options = folders
ask = app.task(asking.ask)

if __name__ == "__main__":
    import json, sys
    results = [ask.delay(number) for number in range(int(sys.argv[1]))]
    print(json.dumps([result.get(timeout=60) for result in results]))
"""


@pytest.fixture
def backend():
    """A ROUTER that answers as many requests at once as there are greenlets."""
    context, router = bound_router()

    def serve():
        while True:
            for request in [router.recv_multipart() for _ in range(GREENLETS)]:
                router.send_multipart(request)

    serving = gevent.spawn(serve)
    yield endpoint_of(router)
    serving.kill()
    router.close()
    context.term()


@pytest.fixture
def environment(tmp_path, backend):
    (tmp_path / "asking.py").write_text(ASK)
    (tmp_path / "application.py").write_text(WSGI)
    (tmp_path / "tasks.py").write_text(TASKS)
    path = python_path(".")
    return os.environ | {"GZMQSOURCE_PATCH": "1", "BACKEND": backend, "PYTHONPATH": path}


def ask(port, number):
    """Make one HTTP request; the body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET /%d HTTP/1.0\r\nHost: localhost\r\n\r\n" % number)
        with connection.makefile("rb") as stream:
            return stream.read().partition(b"\r\n\r\n")[2].decode()


WANTED = [f"{number} gzmqsource.green" for number in range(GREENLETS)]

#: The command, what it prints with the number of its port, and what it prints at last.
SERVERS = {
    "uwsgi": (
        "uwsgi --http-socket 127.0.0.1:0 --gevent 50 --gevent-monkey-patch --die-on-term"
        " --wsgi-file application.py",
        r"bound to TCP address 127.0.0.1:(\d+)",
        r"running gevent loop",
    ),
    "gunicorn": (
        "gunicorn -k gevent -b 127.0.0.1:0 application:application",
        r"Listening at: http://127.0.0.1:(\d+)",
        r"Booting worker",
    ),
}


@needs("pyuwsgi", "gunicorn", extra="servers")
@pytest.mark.parametrize(("command", "bound", "ready"), SERVERS.values(), ids=list(SERVERS))
def test_a_wsgi_server_waits_in_many_requests_at_once(tmp_path, environment, command, bound, ready):
    program, *arguments = command.split()
    if program == "uwsgi":  # over libuv it crashes, with zmq.green as well
        environment["GEVENT_LOOP"] = "libev-cext"
    program = os.path.join(os.path.dirname(sys.executable), program)
    with running([program, *arguments], cwd=tmp_path, env=environment) as server:
        port = int(match(server, bound)[1])
        match(server, ready)
        asking = [gevent.spawn(ask, port, number) for number in range(GREENLETS)]
        assert [greenlet.get(timeout=60) for greenlet in asking] == WANTED


@needs("celery", extra="servers")
def test_a_celery_worker_waits_in_many_tasks_at_once(tmp_path, environment):
    for name in ("queue", "results", "control"):
        (tmp_path / name).mkdir()
    celery = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", "gevent"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    options = {"cwd": tmp_path, "env": environment}
    with running([*celery, "-c", str(GREENLETS), *quiet], **options) as worker:
        match(worker, r"\[queues\]")
        done = subprocess.run(
            [sys.executable, "tasks.py", str(GREENLETS)],
            capture_output=True,
            timeout=90,
            check=True,
            **options,
        )
    assert json.loads(done.stdout) == WANTED


CHAT = """
from gevent import monkey; monkey.patch_all()
import os, warnings
warnings.simplefilter("ignore")  # eventlet is deprecated
import flask
from flask_socketio import SocketIO
from gevent.pywsgi import WSGIServer

app = flask.Flask(__name__)
socketio = SocketIO(app, async_mode="gevent", message_queue=os.environ["QUEUE"])

@socketio.on("shout")
def shout(word):
    socketio.emit("said", word.upper())

server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()
print(f"port {server.server_port}", socketio.server.manager.sub, flush=True)
server.serve_forever()
"""

CLIENT = """
import queue, sys
import socketio

said = queue.Queue()
clients = [socketio.Client() for _ in sys.argv[1:]]
for client, port in zip(clients, sys.argv[1:]):
    client.on("said", said.put)
    client.connect(f"http://127.0.0.1:{port}", transports=["polling"])
for client in clients:
    client.emit("shout", "hello")
    heard = [said.get(timeout=30) for _ in clients]
    assert heard == ["HELLO"] * len(clients), heard
for client in clients:
    client.disconnect()
print("complete")
"""


@pytest.fixture
def queue(context):
    """What ZmqManager asks for: what is pushed into the one port, the other one publishes."""
    into, out = free_ports(2)
    green_context: green.Context[green.Socket[bytes]] = green.Context(shadow=context)
    with green_context.socket(zmq.PULL) as receiver, green_context.socket(zmq.XPUB) as publisher:
        receiver.bind(f"tcp://127.0.0.1:{into}")
        publisher.xpub_verbose = True  # each server subscribes to the same
        publisher.bind(f"tcp://127.0.0.1:{out}")

        def forward():
            while True:
                publisher.send(receiver.recv())

        forwarding = gevent.spawn(forward)
        yield f"zmq+tcp://127.0.0.1:{into}+{out}", publisher
        forwarding.kill()


@needs("flask_socketio", "eventlet", "requests", extra="servers")
@pytest.mark.parametrize("value", ["1", "green"])
def test_flask_socketio_servers_hear_each_other_over_zmq(tmp_path, queue, value):
    url, publisher = queue
    (tmp_path / "chat.py").write_text(CHAT)
    environment = os.environ | {"GZMQSOURCE_PATCH": value, "QUEUE": url}
    chat = {"command": [sys.executable, "chat.py"], "cwd": tmp_path, "env": environment}
    with running(**chat) as first, running(**chat) as second:
        ports = [match(each, r"port (\d+) <gzmqsource\.green")[1] for each in (first, second)]
        with gevent.Timeout(30):
            assert [publisher.recv(), publisher.recv()] == [b"\1", b"\1"]  # both have subscribed
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, *ports],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "complete\n"), done.stderr
