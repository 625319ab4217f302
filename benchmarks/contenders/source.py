"""gzmqsource: with a handler, or pulled."""

from __future__ import annotations

from typing import Any

import gevent
import zmq

from contenders.common import Cell, Clock, sent, verify
from gzmqsource import Source


def receive(cell: Cell, copy: bool = True) -> dict[str, Any]:
    checksum = 0

    def handle(message: list[bytes]) -> None:
        nonlocal checksum
        checksum += message[-1][0]

    def handle_frames(message: list[zmq.Frame]) -> None:
        nonlocal checksum
        checksum += message[-1].buffer[0]

    chosen: Any = handle if copy else handle_frames
    source = Source.open(zmq.PULL, chosen, bind=cell.address(), copy=copy)
    peer = cell.peer("send", source.socket)
    source.start()
    # The source counts the messages; the handler does nothing but the sum.
    while not (before := source.stats().received):
        gevent.sleep(0.0002)
    clock = Clock()
    while source.stats().received < cell.count or source.stats().in_hand:
        gevent.sleep(0.001)
    measured = clock.read()
    return verify(peer, cell, checksum, messages=cell.count - before, **measured)


def receive_pulled(cell: Cell) -> dict[str, Any]:
    source = Source.open(zmq.PULL, bind=cell.address())
    peer = cell.peer("send", source.socket)
    recv = source.recv
    checksum = recv()[-1][0]
    clock = Clock()
    for _ in range(cell.count - 1):
        checksum += recv()[-1][0]
    return verify(peer, cell, checksum, **clock.read())


def send(cell: Cell) -> dict[str, Any]:
    source = Source.open(zmq.PUSH, bind=cell.address())
    peer = cell.peer("receive", source.socket)
    clock = Clock()
    for message in cell.messages():
        source.send(message)
    source.flush()
    return sent(peer, cell, clock)


def roundtrip(cell: Cell) -> dict[str, Any]:
    source = Source.open(zmq.REQ, bind=cell.address())
    peer = cell.peer("echo", source.socket)
    checksum = 0
    clock = None
    for message in cell.messages():
        source.send(message)
        checksum += source.recv()[0][0]
        clock = clock or Clock()
    assert clock is not None
    return verify(peer, cell, checksum, **clock.read())
