"""The rate of 1, 10 and 100 busy sources together."""

from __future__ import annotations

from measure import arguments, compare, print_table


def main() -> None:
    chosen = arguments(__doc__)
    cells = [{"others": others} for others in ((1, 10) if chosen.short else (1, 10, 100))]
    figures = compare("busy", "busy", cells, lambda _: ["Source", "zmq.green"], chosen)
    green = {one.cell["others"]: one for one in figures if one.contender == "zmq.green"}
    rows = [
        [
            one.contender,
            str(one.cell["others"]),
            one.shown("rate", 1e-3, 1),
            f"{one.median('rate') / green[one.cell['others']].median('rate'):.1f}",
        ]
        for one in figures
    ]
    print_table("Busy sources, tcp, 32 B", ["", "sources", "1000/s", "of zmq.green"], rows)


if __name__ == "__main__":
    main()
