"""A server as written before gevent: a thread for each client, and plain blocking sockets.

Run it as it is, or patched, unchanged and on one native thread::

    python examples/legacy.py
    python -m gzmqsource.monkey examples/legacy.py

It answers with the request, after the time that the request asks for, and ends by itself.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import zmq

CLIENTS = 20
REQUESTS = 10


def work(context: zmq.Context[Any], endpoint: str) -> None:
    """Answer the requests that the broker passes to this thread."""
    socket = context.socket(zmq.REP)
    socket.connect(endpoint)
    while True:
        try:
            seconds = socket.recv_json()["sleep"]
            time.sleep(seconds)
            socket.send_json({"slept": seconds, "thread": threading.current_thread().name})
        except zmq.ContextTerminated:
            break
    socket.close()


def broker(frontend: zmq.Socket[Any], backend: zmq.Socket[Any]) -> None:
    """Pass requests to free threads."""
    with contextlib.suppress(zmq.ContextTerminated):
        zmq.proxy(frontend, backend)
    frontend.close(0)
    backend.close(0)


def client(context: zmq.Context[Any], endpoint: str, answers: list[Any]) -> None:
    """Send a request, and wait for the answer."""
    with context.socket(zmq.REQ) as socket:
        socket.connect(endpoint)
        for _ in range(REQUESTS):
            socket.send_json({"sleep": 0.01})
            answers.append(socket.recv_json())


def main() -> None:
    """Serve some clients, and print the time that it took."""
    server: zmq.Context[Any] = zmq.Context()
    clients: zmq.Context[Any] = zmq.Context()
    frontend, backend = server.socket(zmq.ROUTER), server.socket(zmq.DEALER)
    port = frontend.bind_to_random_port("tcp://127.0.0.1")
    backend.bind("inproc://workers")
    serving = [threading.Thread(target=broker, args=(frontend, backend))]
    serving += [
        threading.Thread(target=work, args=(server, "inproc://workers")) for _ in range(CLIENTS)
    ]
    for thread in serving:
        thread.start()
    answers: list[Any] = []
    started = time.monotonic()
    asking = [
        threading.Thread(target=client, args=(clients, f"tcp://127.0.0.1:{port}", answers))
        for _ in range(CLIENTS)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    seconds = time.monotonic() - started
    clients.term()
    server.term()
    for thread in serving:
        thread.join()
    print(f"{len(answers)} answers in {seconds:.2f} s, {type(server).__module__}.Context")


if __name__ == "__main__":
    main()
