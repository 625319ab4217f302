"""A load test of a ZeroMQ server by Locust, whose master gives each worker its own numbers.

Start ``backend.py`` as described there, then Locust with two workers, each a process::

    python -m gzmqsource.monkey --module locust -f locustfile.py --headless --processes 2 \
        --host tcp://127.0.0.1:5557 -u 100 -r 50 -t 5s

All users of a worker share one Requester. Its requests are in Locust's table, with their times and
errors. The numbers travel over Locust's own messages between master and workers, which are
``zmq.green`` sockets: the command above puts the drop-in in its place.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

from locust import User, events, task
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from gzmqsource.workers import PeerLost, RemoteError, Requester, RequestTimeout

#: The numbers that the users of this process request. Without workers, these are all numbers.
numbers: Iterator[int] = itertools.count()
requester: Requester | None = None


class ZmqUser(User):  # type: ignore[misc, unused-ignore]
    """A user whose requests go over ZeroMQ."""

    abstract = True

    def ask(self, name: str, message: bytes, timeout: float = 5) -> bytes | None:
        """Send a request, and report it to Locust; return None if it has failed."""
        assert requester is not None, "made when the test starts"
        began = time.perf_counter()
        reply, failure = None, None
        try:
            (reply,) = requester.request(message, timeout=timeout)
        except (RequestTimeout, PeerLost, RemoteError) as error:
            failure = error
        self.environment.events.request.fire(
            request_type="ZMQ",
            name=name,
            response_time=1000 * (time.perf_counter() - began),
            response_length=len(reply or b""),
            exception=failure,
            context=self.context(),
        )
        return reply


class Doubler(ZmqUser):
    @task
    def double(self) -> None:
        number = next(numbers)
        reply = self.ask("double", b"%d" % number)
        assert reply is None or int(reply) == 2 * number


@events.test_start.add_listener  # type: ignore[untyped-decorator, unused-ignore]
def on_test_start(environment: Environment, **_: Any) -> None:
    """Connect a worker, and have the master distribute the numbers among the workers."""
    global requester
    runner = environment.runner
    if isinstance(runner, (WorkerRunner, LocalRunner)):
        requester = Requester.open(environment.host or "tcp://127.0.0.1:5557")
    if isinstance(runner, MasterRunner):
        clients = list(runner.clients)
        for first, client in enumerate(clients):
            share = {"first": first, "step": len(clients)}
            runner.send_message("numbers", share, client)


@events.test_stop.add_listener  # type: ignore[untyped-decorator, unused-ignore]
def on_test_stop(environment: Environment, **_: Any) -> None:
    if requester is not None:
        requester.stop(5)


@events.init.add_listener  # type: ignore[untyped-decorator, unused-ignore]
def on_init(environment: Environment, **_: Any) -> None:
    """Take part in the messages between master and workers."""
    runner = environment.runner

    def take_numbers(environment: Environment, msg: Any, **_: Any) -> None:
        global numbers
        numbers = itertools.count(msg.data["first"], msg.data["step"])
        assert isinstance(runner, WorkerRunner)
        runner.send_message("has_numbers", msg.data)

    def note(environment: Environment, msg: Any, **_: Any) -> None:
        print(
            f"{msg.node_id} has numbers in steps of {msg.data['step']} from {msg.data['first']}",
            flush=True,
        )

    if isinstance(runner, WorkerRunner):
        runner.register_message("numbers", take_numbers)
    elif isinstance(runner, MasterRunner):
        runner.register_message("has_numbers", note)
