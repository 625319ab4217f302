"""One operation beside n others of its kind: what it costs in CPU of the hub's thread.

Each is passed a cell, of which `others` is n, and gives ``{"cpu_each": seconds, …}``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import zmq
from gevent.event import Event

from contenders.common import Cell, allow_files
from contenders.idle import memory
from gzmqsource import Source, green
from gzmqsource.workers import Requester, RequestTimeout

#: The high-water mark of a socket whose peer is to be full.
MARK = 100

#: The fewest repetitions that are timed together.
BATCH = 20


def context_of(cell: Cell) -> zmq.Context[Any]:
    allow_files()
    context: zmq.Context[Any] = zmq.Context()
    context.max_sockets = cell.others + 1000  # of which some wait for the reaper
    return context


def timed(cell: Cell, operation: Callable[[], object]) -> dict[str, Any]:
    """Repeat an operation for the cell's seconds of CPU; give the median batch's cost of one."""
    operation()
    costs = []
    ends = time.thread_time() + cell.seconds
    while (began := time.thread_time()) < ends:
        for _ in range(BATCH):
            operation()
        costs.append((time.thread_time() - began) / BATCH)
    return {"cpu_each": sorted(costs)[len(costs) // 2]}


def all_together(n: int, cpu: float, **more: Any) -> dict[str, Any]:
    return {"cpu_each": cpu / n, **more}


def let_poll() -> None:
    """Let the loop look for I/O; ``gevent.sleep(0)`` goes on with callbacks instead."""
    hub: Any = gevent.get_hub()
    with hub.loop.timer(0) as timer:
        hub.wait(timer)


# Sources.


def scale_open_a_source(cell: Cell) -> dict[str, Any]:
    context = context_of(cell)
    before = memory()
    kept = [Source.open(zmq.PULL, context=context) for _ in range(cell.others)]
    each = (memory() - before) / cell.others

    def open_and_close() -> None:
        Source.open(zmq.PULL, context=context).close()

    return timed(cell, open_and_close) | {"bytes_each": each, "kept": len(kept)}


def passing(context: Any, receive: Callable[[], object], push: Any) -> Callable[[], None]:
    """Give what has one message come while a greenlet waits for it."""
    run_callback = gevent.get_hub().loop.run_callback

    def pass_one() -> None:
        run_callback(push.send, b"x")
        receive()

    return pass_one


def pushing(context: Any, endpoint: str) -> Any:
    push = context.socket(zmq.PUSH)
    push.connect(endpoint)
    return push


def scale_a_message_beside_idle_sources(cell: Cell) -> dict[str, Any]:
    context = context_of(cell)
    idle = [Source.open(zmq.PULL, context=context) for _ in range(cell.others)]
    waiting = [gevent.spawn(source.recv) for source in idle]
    busy = Source.open(zmq.PULL, context=context, bind="inproc://busy")
    gevent.sleep(0.05)
    measured = timed(cell, passing(context, busy.recv, pushing(context, "inproc://busy")))
    assert not any(greenlet.dead for greenlet in waiting)
    return measured


# Those that wait on one socket.


def scale_a_message_to_one_of_many_that_wait(cell: Cell) -> dict[str, Any]:
    context = context_of(cell)
    source = Source.open(zmq.PULL, context=context, bind="inproc://one")
    served = Event()

    def receive() -> None:
        while True:
            source.recv()
            served.set()

    waiting = [gevent.spawn(receive) for _ in range(cell.others)]
    gevent.sleep(0.05)
    push = pushing(context, "inproc://one")

    def pass_one() -> None:
        served.clear()
        push.send(b"x")
        served.wait()

    measured = timed(cell, pass_one)
    assert not any(greenlet.dead for greenlet in waiting)
    return measured


def begin_and_give_up(cell: Cell, wait: Callable[[], object]) -> dict[str, Any]:
    """Have one more greenlet wait beside n others, and kill the first that does."""
    waiting = [gevent.spawn(wait) for _ in range(cell.others)]
    gevent.sleep(0.05)
    killed = iter(waiting)

    def give_up() -> None:
        waiting.append(gevent.spawn(wait))
        gevent.sleep(0)
        next(killed).kill()

    return timed(cell, give_up)


def scale_begin_and_give_up_a_wait(cell: Cell) -> dict[str, Any]:
    context = context_of(cell)
    source = Source.open(zmq.PULL, context=context)
    return begin_and_give_up(cell, source.recv)


# Polling.


def scale_a_message_to_a_polled_socket(cell: Cell) -> dict[str, Any]:
    """Poll n sockets in one Poller."""
    context = context_of(cell)
    poller = green.Poller()
    for _ in range(cell.others - 1):
        poller.register(green.Socket(context, zmq.PULL), zmq.POLLIN)
    socket: Any = green.Socket(context, zmq.PULL)
    socket.bind("inproc://polled")
    poller.register(socket, zmq.POLLIN)

    def receive() -> None:
        poller.poll()
        socket.recv()

    return timed(cell, passing(context, receive, pushing(context, "inproc://polled")))


def scale_begin_and_give_up_a_poll(cell: Cell) -> dict[str, Any]:
    """Poll one socket in n greenlets."""
    context = context_of(cell)
    socket: Any = green.Socket(context, zmq.PULL)
    return begin_and_give_up(cell, socket.poll)


# Requests.


def scale_a_request_beside_outstanding_ones(cell: Cell) -> dict[str, Any]:
    context = context_of(cell)
    router = context.socket(zmq.ROUTER)
    router.rcvhwm = router.sndhwm = 0
    router.bind("inproc://requests")
    requester = Requester.open("inproc://requests", context=context, max_outstanding=1 << 30)
    outstanding = [requester.submit(b"x", timeout=3600) for _ in range(cell.others)]
    for _ in outstanding:
        router.recv_multipart()

    def ask() -> None:
        result = requester.submit(b"x", timeout=3600)
        router.send_multipart(router.recv_multipart(zmq.NOBLOCK))
        result.get()

    return timed(cell, ask) | {"outstanding": requester.stats().outstanding}


def scale_a_request_that_expires(cell: Cell) -> dict[str, Any]:
    """Let n requests expire at once, twice; the second time a tick shows how the hub is kept."""
    context = context_of(cell)
    router = context.socket(zmq.ROUTER)
    router.rcvhwm = 0
    router.bind("inproc://requests")
    requester = Requester.open("inproc://requests", context=context, max_outstanding=1 << 30)
    late: list[float] = []

    def tick() -> None:
        while True:
            cpu = time.thread_time()
            gevent.sleep(0.001)
            late.append(time.thread_time() - cpu)

    cpu = expire_all(cell.others, requester)
    ticking = gevent.spawn(tick)
    gevent.sleep(0.01)
    expire_all(cell.others, requester)
    ticking.kill()
    return all_together(cell.others, cpu, longest=max(late[1:]))


def expire_all(n: int, requester: Requester) -> float:
    """Give the CPU that it takes to have n requests expire."""
    left, all_expired = n, Event()

    def note(result: Any) -> None:
        nonlocal left
        left -= isinstance(result.exception, RequestTimeout)
        if not left:
            all_expired.set()

    # Longer than it takes to ask them all.
    timeout = 0.02 + n * 1e-4
    for _ in range(n):
        requester.submit(b"x", timeout).rawlink(note)
    gevent.sleep(0)  # what waits for the first of them begins to do so
    time.sleep(timeout)  # with the hub held up, until all are due
    cpu = time.thread_time()
    all_expired.wait()
    return time.thread_time() - cpu


# Queued messages.


def clogged(cell: Cell, **options: Any) -> tuple[Source, Any]:
    """Give a ROUTER, and a peer of it that is full."""
    context = context_of(cell)
    source = Source.open(
        zmq.ROUTER,
        context=context,
        bind="inproc://server",
        router_mandatory=1,
        sndhwm=MARK,
        outbox=2 * cell.others + 100,
        **options,
    )
    dealer = context.socket(zmq.DEALER)
    dealer.routing_id = b"peer"
    dealer.rcvhwm = 1
    dealer.connect("inproc://server")
    while not source.stats().outbox_depth:
        source.send_nowait([b"peer", b"x"])
    gevent.sleep(0.05)  # until the hub has given it up
    return source, dealer


def drained(source: Source, dealer: Any) -> None:
    while source.stats().outbox_depth:
        try:
            while True:
                dealer.recv(zmq.NOBLOCK)
        except zmq.Again:
            let_poll()


def scale_queue_and_send_a_message(cell: Cell) -> dict[str, Any]:
    """Queue n messages for one peer, which then reads them all."""
    source, dealer = clogged(cell)
    cpu = time.thread_time()
    for _ in range(cell.others):
        source.send_nowait([b"peer", b"x"])
    queued = time.thread_time() - cpu
    drained(source, dealer)
    return all_together(cell.others, time.thread_time() - cpu, queued=queued / cell.others)


def scale_a_message_from_a_thread(cell: Cell) -> dict[str, Any]:
    """Leave n messages in another thread while the hub is held up, and then take them over."""
    source, dealer = clogged(cell)
    sender = source.sender()
    used = 0.0

    def leave() -> None:
        nonlocal used
        for _ in range(cell.others):
            sender.send_nowait([b"peer", b"x"])
        used = time.thread_time()

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    cpu = time.thread_time()
    while source.stats().outbox_depth <= cell.others:
        let_poll()
    taken = time.thread_time() - cpu
    drained(source, dealer)
    cpu = time.thread_time() - cpu
    return all_together(cell.others, used + cpu, taken=taken / cell.others)


def scale_withdraw_a_message(cell: Cell) -> dict[str, Any]:
    """Withdraw messages from among n that wait: the oldest, the newest, and those between."""
    source, _ = clogged(cell)
    messages = [[b"peer", b"%d" % number] for number in range(cell.others)]
    for message in messages:
        source.send_nowait(message)

    def places() -> Iterator[int]:
        while True:
            yield from (0, -1, cell.others // 2)

    which = places()

    def withdraw() -> None:
        index = next(which)
        message = messages.pop(index)
        if not source.withdraw(message):
            raise SystemExit("a message was not there")
        messages.append(message)
        source.send_nowait(message)

    return timed(cell, withdraw)
