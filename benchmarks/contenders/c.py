"""C to C: peer.c at this end too. What libzmq itself can do."""

from __future__ import annotations

from typing import Any

import zmq
from peer import Peer

from contenders.common import Cell, Clock


def both(cell: Cell, role: str, other_role: str, measured: str) -> dict[str, Any]:
    context = zmq.Context()
    with context.socket(zmq.PULL) as probe:
        probe.bind(cell.address())
        endpoint = probe.LAST_ENDPOINT.decode()
        probe.unbind(endpoint)
    clock = Clock()
    here = Peer(role, "@" + endpoint, cell.count, cell.size, cell.frames, context)
    inside = context if cell.transport == "inproc" else None
    there = Peer(other_role, endpoint, cell.count, cell.size, cell.frames, inside)
    results = {role: here.finish(), other_role: there.finish()}
    cpu = clock.read()["cpu"]
    if results[role]["checksum"] != results[other_role]["checksum"]:
        raise SystemExit(f"the two ends differ: {results}")
    return results[measured] | {"cpu": cpu}


def receive(cell: Cell) -> dict[str, Any]:
    return both(cell, "receive", "send", "receive")


def send(cell: Cell) -> dict[str, Any]:
    return both(cell, "send", "receive", "receive")


def roundtrip(cell: Cell) -> dict[str, Any]:
    return both(cell, "ask", "echo", "ask")
