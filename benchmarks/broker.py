"""Requests through a broker beside libzmq's proxy: how many, how long they wait, among how many."""

from __future__ import annotations

import argparse
import itertools

from measure import arguments, compare, print_table

CONTENDERS = ["Proxy", "Broker"]

#: How many workers have joined.
COUNTS = (1, 10, 100, 1000)


def rates(chosen: argparse.Namespace) -> None:
    """Small requests to two workers; all four programs are processes of their own.

    The CPU time of all four bounds the rate where all cores are busy, and other programs change it
    least.
    """
    cells = [
        {"transfer": transfer, "asker": asker, "seconds": 2 * chosen.seconds}
        for transfer, asker in itertools.product(("native", "pure"), ("Requester", "C"))
    ]
    figures = compare("broker", "broker", cells, lambda _: CONTENDERS, chosen, calibrate=False)
    rows = []
    for proxy, broker in zip(figures[::2], figures[1::2], strict=True):
        ratios = [a / b for a, b in zip(broker.of("rate"), proxy.of("rate"), strict=True)]
        rows.append(
            [
                f"{broker.cell['asker']}, {broker.cell['transfer']}",
                *(one.shown("rate", 1e-3, 1) for one in (proxy, broker)),
                f"{broker.ratio('rate', proxy):.2f} ±{(max(ratios) - min(ratios)) / 2:.2f}",
                *(one.shown("cpu_per_message", 1e6, 1) for one in (proxy, broker)),
                *(one.shown("all_per_message", 1e6, 1) for one in (proxy, broker)),
                f"{proxy.ratio('all_per_message', broker):.2f}",
            ]
        )
    header = ["who asks", "Proxy, 1000/s", "Broker", "of Proxy"]
    header += ["CPU us/request: Proxy", "Broker", "of all: Proxy", "Broker", "Proxy's of it"]
    print_table("Requests to two workers, 100 outstanding, tcp, 32 B", header, rows)


def waits(chosen: argparse.Namespace) -> None:
    """One request in fifty is long, and handlers are asked for three fifths of their time."""
    cell = {"seconds": 6 if chosen.short else 20}
    proxy, broker = compare("waits", "waits", [cell], lambda _: CONTENDERS, chosen, calibrate=False)
    rows = [
        [
            one.contender,
            one.shown("wait_50", 1e3, 1),
            one.shown("wait_99", 1e3, 0),
            f"{one.ratio('wait_99', proxy):.2f}",
        ]
        for one in (proxy, broker)
    ]
    header = ["", "median ms", "99 % ms", "of Proxy"]
    print_table("How long short requests wait, 4 workers x 2, 2 % are long", header, rows)


def joined(chosen: argparse.Namespace) -> None:
    """One request at a time, and 100, among more and more workers."""
    cells = [
        {"others": count, "outstanding": outstanding, "seconds": 2 * chosen.seconds}
        for outstanding, count in itertools.product((1, 100), COUNTS)
    ]
    figures = compare("joined", "joined", cells, lambda _: ["Broker"], chosen, calibrate=False)
    rows = []
    for index, one in enumerate(figures):
        alone = figures[index - index % len(COUNTS)]
        rows.append(
            [
                f"{one.cell['outstanding']} outstanding, {one.cell['others']} joined",
                one.shown("cpu_each", 1e6, 1),
                f"{one.ratio('cpu_each', alone):.2f}",
                one.shown("idle", 100),
            ]
        )
    header = ["", "CPU us/request", "of 1 joined", "idle, % of a core"]
    print_table("One request among so many workers", header, rows)


def main() -> None:
    chosen = arguments(__doc__)
    chosen.runs = min(chosen.runs, 3)
    rates(chosen)
    waits(chosen)
    joined(chosen)


if __name__ == "__main__":
    main()
