"""How many messages pile up in a server that cannot keep up, and what that costs in memory."""

from __future__ import annotations

from measure import arguments, compare, print_table


def main() -> None:
    chosen = arguments(__doc__)
    cell = {"count": 5000 if chosen.short else 20_000, "size": 1024}
    names = ["Source", "zmq.green"]
    figures = compare("pressure", "pressure", [cell], lambda _: names, chosen, calibrate=False)
    rows = [
        [
            one.contender,
            one.shown("most_held", 1, 0),
            one.shown("memory", 2**-20, 1),
            one.shown("rate", 1, 0),
        ]
        for one in figures
    ]
    header = ["", "messages held, most", "memory grown, MB", "handled a second"]
    print_table(f"{cell['count']} messages of 1 KB for 20 handlers that wait 2 ms", header, rows)


if __name__ == "__main__":
    main()
