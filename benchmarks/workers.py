"""Requests a second of 100 greenlets that ask at a time, and the memory of one request."""

from __future__ import annotations

from measure import arguments, compare, print_table

CONTENDERS = ["Requester", "zmq.green", "zerorpc"]


def main() -> None:
    chosen = arguments(__doc__)
    cell = {"size": 32, "others": 100}
    figures = compare("workers", "workers", [cell], lambda _: CONTENDERS, chosen)
    row = {one.contender: one.median("rate") for one in figures}
    rows = [
        [
            one.contender,
            one.shown("rate", 1e-3, 2),
            f"{row[one.contender] / row['zmq.green']:.2f}",
            f"{row[one.contender] / row['zerorpc']:.1f}",
            one.shown("cpu_per_message", 1e6, 1),
        ]
        for one in figures
    ]
    header = ["", "1000/s", "of zmq.green", "of zerorpc", "CPU us/request"]
    print_table("100 greenlets that ask, tcp, 32 B", header, rows)

    waiting = [{"size": 32, "count": 20_000}]
    memory = compare(
        "outstanding", "outstanding", waiting, lambda _: ["Requester"], chosen, calibrate=False
    )
    print_table(
        "Memory of an outstanding request with a timeout",
        ["", "bytes"],
        [[one.contender, one.shown("bytes", 1, 0)] for one in memory],
    )


if __name__ == "__main__":
    main()
