"""A client that asks N times at once: ``python -m service.client ENDPOINT N``."""

from __future__ import annotations

import sys

import gevent

from gzmqsource.workers import Requester


def main() -> None:
    requester = Requester.open(sys.argv[1])
    asked = [requester.submit([b"%d" % number]) for number in range(int(sys.argv[2]))]
    print("asked", flush=True)
    gevent.wait(asked)


if __name__ == "__main__":
    main()
