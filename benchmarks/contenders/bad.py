"""A peer whose messages are handled, beside ten others whose messages make the handler raise."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gevent
import zmq
from gevent.pool import Pool

from contenders.common import Cell, Clock
from gzmqsource import Source

#: How many others there are, and what each peer sends in 10 ms, at once.
OTHERS, BURST = 10, 10

#: The peers, in a process of their own: where, and what the others send.
PEERS = f"""
import sys, time, zmq
context = zmq.Context()
peers = [context.socket(zmq.PUSH) for _ in range({OTHERS} + 1)]
for peer in peers:
    peer.connect(sys.argv[1])
while True:
    for index, peer in enumerate(peers):
        for _ in range({BURST}):
            peer.poll(0, zmq.POLLOUT) and peer.send(sys.argv[2].encode() if index else b"counted")
    time.sleep(0.01)
"""


def bad(cell: Cell) -> dict[str, Any]:
    counted = 0

    def handle(message: list[bytes]) -> None:
        nonlocal counted
        if message == [b"bad"]:
            raise ValueError("this message cannot be handled")
        counted += message == [b"counted"]

    spawn = {"None": None, "int": 10, "Pool": Pool(10)}[cell.spawn]
    source = Source.open(zmq.PULL, handle, bind=cell.address(), spawn=spawn)
    endpoint = source.socket.get_string(zmq.LAST_ENDPOINT)
    source.start()
    sent = "bad" if cell.others else "good"
    peers = subprocess.Popen([sys.executable, "-c", PEERS, endpoint, sent])
    try:
        while not counted:
            gevent.sleep(0.01)
        before, clock = counted, Clock()
        gevent.sleep(cell.seconds)
        return clock.read() | {"messages": counted - before}
    finally:
        peers.kill()
        peers.wait()
