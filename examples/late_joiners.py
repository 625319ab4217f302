"""A publisher of state whose subscribers may join late, or be away: a snapshot, then every change.

Start them in any order, and as many subscribers as you like::

    python late_joiners.py publisher tcp://127.0.0.1:5555 tcp://127.0.0.1:5556
    python late_joiners.py subscriber tcp://127.0.0.1:5555 tcp://127.0.0.1:5556

A PUB socket drops messages for subscribers that are not connected. So each change has a number, and
the publisher also answers requests for the whole state. A subscriber first subscribes, then asks,
and then applies the changes that are newer than the answer. If a number is missing, it asks again.
"""

from __future__ import annotations

import json
import random
import sys

import gevent
import zmq

from gzmqsource import Source
from gzmqsource.workers import Requester, Responder

#: The number of changes that the publisher makes before it ends, and seconds between two.
CHANGES = 300
PAUSE = 0.01

#: The key of the last change.
END = "end"


def publisher(changes: str, snapshots: str) -> None:
    """Change a state, publish each change, and answer requests for the whole state."""
    state: dict[str, int] = {}
    number = 0

    def snapshot(_: list[bytes]) -> list[bytes]:
        return [b"%d" % number, json.dumps(state).encode()]

    with (
        Source.open(zmq.PUB, bind=changes) as publishing,
        Responder.open(snapshot, bind=snapshots) as responder,
    ):
        responder.start()
        for key in [*random.choices("abcdefgh", k=CHANGES), END]:
            # No switch between these lines: a snapshot has a change and its number, or neither.
            number += 1
            state[key] = state.get(key, 0) + 1
            publishing.send([b"state", b"%d" % number, key.encode(), b"%d" % state[key]])
            gevent.sleep(PAUSE)
        print(f"{number} changes: {json.dumps(state, sort_keys=True)}", flush=True)
        gevent.sleep(1)  # late subscribers may still ask


def subscriber(changes: str, snapshots: str) -> None:
    """Follow the state until its last change."""
    with (
        Source.open(zmq.SUB, connect=changes, subscribe="state") as source,
        Requester.open(snapshots) as requester,
    ):
        number, state = ask(requester)
        while END not in state:
            _, at, key, value = source.recv(timeout=30)
            if int(at) <= number:
                continue  # the snapshot has it
            if int(at) > number + 1:
                print(f"missed {int(at) - number - 1} changes", flush=True)
                number, state = ask(requester)
                continue
            number, state[key.decode()] = int(at), int(value)
    print(f"{number} changes: {json.dumps(state, sort_keys=True)}", flush=True)


def ask(requester: Requester) -> tuple[int, dict[str, int]]:
    """Return the number of the last change, and the state after it."""
    number, state = requester.request(b"", timeout=30, retries=5)
    return int(number), json.loads(state)


if __name__ == "__main__":
    {"publisher": publisher, "subscriber": subscriber}[sys.argv[1]](*sys.argv[2:])
