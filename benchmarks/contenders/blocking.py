"""Sockets whose calls block the greenlet or the thread: pyzmq, zmq.green, eventlet, zerorpc."""

from __future__ import annotations

import functools
import importlib
import itertools
import warnings
from typing import Any

import gevent
import zmq

from contenders.common import Cell, Clock, sent, verify

warnings.filterwarnings("ignore", category=DeprecationWarning)


def context_of(module: str) -> Any:
    return importlib.import_module(module).Context()


def bound(module: str, kind: int, cell: Cell) -> Any:
    socket = context_of(module).socket(kind)
    socket.bind(cell.address())
    return socket


def receive(cell: Cell, module: str, copy: bool = True) -> dict[str, Any]:
    socket = bound(module, zmq.PULL, cell)
    peer = cell.peer("send", socket)
    recv = socket.recv_multipart if copy else functools.partial(socket.recv_multipart, copy=False)
    checksum = 0
    message = recv()
    clock = Clock()
    if copy:
        checksum += message[-1][0]
        for _ in range(cell.count - 1):
            checksum += recv()[-1][0]
    else:
        checksum += message[-1].buffer[0]
        for _ in range(cell.count - 1):
            checksum += recv()[-1].buffer[0]
    return verify(peer, cell, checksum, **clock.read())


def receive_frames(cell: Cell, module: str) -> dict[str, Any]:
    """Receive messages of one frame by ``recv``."""
    socket = bound(module, zmq.PULL, cell)
    peer = cell.peer("send", socket)
    recv = socket.recv
    checksum = recv()[0]
    clock = Clock()
    for _ in range(cell.count - 1):
        checksum += recv()[0]
    return verify(peer, cell, checksum, **clock.read())


def send_frames(cell: Cell, module: str) -> dict[str, Any]:
    """Send messages of one frame by ``send``."""
    socket = bound(module, zmq.PUSH, cell)
    peer = cell.peer("receive", socket)
    clock = Clock()
    for (frame,) in cell.messages():
        socket.send(frame)
    return sent(peer, cell, clock)


def poll(cell: Cell, module: str) -> dict[str, Any]:
    """Poll many sockets, one of which gets a message that is sent after the poll has begun."""
    library = importlib.import_module(module)
    context = library.Context()
    poller = library.Poller()
    pushes = []
    for index in range(cell.others):
        pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        pull.bind(f"inproc://{index}")
        push.connect(f"inproc://{index}")
        poller.register(pull, zmq.POLLIN)
        pushes.append(push)
    run_callback = gevent.get_hub().loop.run_callback
    clock = Clock()
    for push in itertools.islice(itertools.cycle(pushes), cell.count):
        if module == "zmq":
            push.send(b"x")
        else:
            run_callback(push.send, b"x")
        ((pull, _),) = poller.poll()
        if pull.recv() != b"x":
            raise SystemExit("the message is another one")
    return {"messages": cell.count, **clock.read()}


def send(cell: Cell, module: str, copy: bool = True) -> dict[str, Any]:
    socket = bound(module, zmq.PUSH, cell)
    peer = cell.peer("receive", socket)
    clock = Clock()
    if copy:
        for message in cell.messages():
            socket.send_multipart(message)
    else:
        for message in cell.messages():
            socket.send_multipart(message, copy=False)
    return sent(peer, cell, clock)


def roundtrip(cell: Cell, module: str) -> dict[str, Any]:
    socket = bound(module, zmq.REQ, cell)
    peer = cell.peer("echo", socket)
    checksum = 0
    clock = None
    for message in cell.messages():
        socket.send(message[0])
        checksum += socket.recv()[0]
        clock = clock or Clock()
    assert clock is not None
    return verify(peer, cell, checksum, **clock.read())
