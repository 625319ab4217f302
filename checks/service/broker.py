"""A broker: ``python -m service.broker FRONT BACK [options]``. SIGTERM stops it."""

from __future__ import annotations

import argparse
import signal

import gevent

from gzmqsource.broker import Broker


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("front")
    parser.add_argument("back")
    parser.add_argument("--redeliver", action="store_true")
    parser.add_argument("--dead-after", type=float, default=1.0)
    chosen = parser.parse_args()
    broker = Broker.open(
        chosen.front, chosen.back, redeliver=chosen.redeliver, dead_after=chosen.dead_after
    )
    gevent.signal_handler(signal.SIGTERM, lambda: gevent.spawn(broker.stop, 10))
    broker.start()
    print("ready", flush=True)
    broker.serve_forever()


if __name__ == "__main__":
    main()
