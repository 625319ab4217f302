"""A server whose handler notes each execution: ``python -m service.server LOG [options]``.

A request is one frame: a number, or ``stick SECONDS``, which keeps the hub from running. Each line
of LOG is what happened to a number: began, ended, or cancelled. SIGTERM stops it.
"""

from __future__ import annotations

import argparse
import os
import signal
import time

import gevent

from gzmqsource.errors import RequestCancelled
from gzmqsource.workers import Responder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log")
    parser.add_argument("--bind", default=())
    parser.add_argument("--connect", default=())
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--spawn", type=int, default=100)
    parser.add_argument("--dead-after", type=float, default=1.0)
    chosen = parser.parse_args()
    log = os.open(chosen.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, number: bytes) -> None:
        os.write(log, b"%d %s %s %.6f\n" % (os.getpid(), what.encode(), number, time.time()))

    def handle(payload: list[bytes]) -> bytes:
        (number,) = payload
        if number.startswith(b"stick"):
            time.sleep(float(number.split()[1]))  # not gevent's: nothing else runs meanwhile
            return number
        note("began", number)
        try:
            if chosen.seconds:
                gevent.sleep(chosen.seconds)
        except RequestCancelled:
            note("cancelled", number)
            raise
        note("ended", number)
        return number

    responder = Responder.open(
        handle,
        bind=chosen.bind,
        connect=chosen.connect,
        spawn=chosen.spawn,
        dead_after=chosen.dead_after,
    )
    gevent.signal_handler(signal.SIGTERM, lambda: gevent.spawn(responder.stop, 10))
    responder.start()
    print("ready", flush=True)
    responder.serve_forever()


if __name__ == "__main__":
    main()
