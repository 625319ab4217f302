"""A server whose handler notes each execution: ``python -m service.server LOG [options]``.

A request is one frame, a number. Each line of LOG is what happened to one: began, ended, or
cancelled. SIGTERM stops it, and SIGUSR1 has it compute for 4 s, while nothing else runs. With
``--join`` it is a worker of brokers, and leaves them.
"""

from __future__ import annotations

import argparse
import os
import signal
import time

import gevent

from gzmqsource.errors import RequestCancelled
from gzmqsource.workers import Responder
from service.parts import block_hub


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log")
    parser.add_argument("--bind", default=())
    parser.add_argument("--connect", default=())
    parser.add_argument("--join", nargs="+")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--spawn", type=int, default=100)
    parser.add_argument("--dead-after", type=float, default=1.0)
    chosen = parser.parse_args()
    log = os.open(chosen.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, number: bytes) -> None:
        os.write(log, b"%d %s %s %.6f\n" % (os.getpid(), what.encode(), number, time.time()))

    def handle(payload: list[bytes]) -> bytes:
        (number,) = payload
        note("began", number)
        try:
            if chosen.seconds:
                gevent.sleep(chosen.seconds)
        except RequestCancelled:
            note("cancelled", number)
            raise
        note("ended", number)
        return number

    options = {"spawn": chosen.spawn, "dead_after": chosen.dead_after}
    if chosen.join:
        responder = Responder.join(chosen.join, handle, **options)
    else:
        responder = Responder.open(handle, bind=chosen.bind, connect=chosen.connect, **options)
    gevent.signal_handler(signal.SIGTERM, lambda: gevent.spawn(responder.stop, 10))
    gevent.signal_handler(signal.SIGUSR1, block_hub, 4)
    responder.start()
    while chosen.join and responder.stats().askers < len(chosen.join):
        gevent.sleep(0.01)
    print("ready", flush=True)
    responder.serve_forever()


if __name__ == "__main__":
    main()
