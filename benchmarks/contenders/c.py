"""C to C: peer.c at this end too. What libzmq itself can do."""

from __future__ import annotations

import os
from typing import Any

import zmq
from peer import Peer

from contenders.common import Cell, Clock


def both(cell: Cell, role: str, other_role: str) -> dict[str, Any]:
    context = zmq.Context()
    clock = Clock()
    stay, leave = os.pipe()
    here = Peer(role, "@" + cell.address(), cell.count, cell.size, cell.frames, context, stay=stay)
    inside = context if cell.transport == "inproc" else None
    there = Peer(other_role, here.endpoints[0], cell.count, cell.size, cell.frames, inside)
    # A sender in this process may leave when the other end has everything.
    ends = [there, here] if role == "send" else [here, there]
    first = ends[0].finish()
    os.close(leave)
    results = [first, ends[1].finish()]
    os.close(stay)
    cpu = clock.read()["cpu"]
    if results[0]["checksum"] != results[1]["checksum"]:
        raise SystemExit(f"the two ends differ: {results}")
    # The receiver's clock counts, or the asker's: both finish first.
    return results[0] | {"cpu": cpu}


def receive(cell: Cell) -> dict[str, Any]:
    return both(cell, "receive", "send")


def send(cell: Cell) -> dict[str, Any]:
    return both(cell, "send", "receive")


def roundtrip(cell: Cell) -> dict[str, Any]:
    return both(cell, "ask", "echo")
