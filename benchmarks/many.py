"""1 to 500 flooded sockets in one hub: rate, shares, and how late a tick and an echo are."""

from __future__ import annotations

from typing import Any

from measure import Figures, arguments, compare, print_table

KINDS = ["handler", "spawn=20", "Pool(20)", "pulled", "green recv"]

#: Seconds of CPU that handlers take.
WORK = 50e-6


def main() -> None:
    chosen = arguments(__doc__)
    chosen.runs = min(chosen.runs, 3)
    seconds = 2 * chosen.seconds
    cells = [
        {"loop": loop, "work": work, "others": others, "seconds": seconds}
        for loop, counts in (
            ("libev-cext", (1, 100) if chosen.short else (1, 10, 100, 500)),
            ("libuv-cffi", (100,) if chosen.short else (1, 100, 500)),
        )
        for work in (0, WORK)
        for others in counts
    ]

    def kinds(cell: dict[str, Any]) -> list[str]:
        is_few = cell["loop"] == "libuv-cffi" or cell["others"] == 1
        return KINDS[:1] if chosen.short and is_few else KINDS

    figures = compare("many", "many", cells, kinds, chosen, calibrate=False)
    show("Flooded sockets in one hub, tcp, 32 B", figures)
    cells = [{"others": 21, "work": WORK, "slow": True, "seconds": 2 * seconds}]
    kinds_of_all = compare("many slow", "many", cells, lambda _: KINDS, chosen, calibrate=False)
    rows = [
        [one.contender, one.shown("share_of_slow", 100, 1), f"{100 / 21:.1f}"]
        for one in kinds_of_all
    ]
    header = ["", "its share of the CPU, %", "an equal share"]
    print_table("One handler of 5 ms beside twenty of 50 us", header, rows)


def show(title: str, figures: list[Figures]) -> None:
    for one in figures:
        for run in one.runs:
            run["cpu_rate"] = run["messages"] / run["thread_cpu"]
    first: dict[tuple[Any, ...], Figures] = {}
    rows = []
    for one in figures:
        cell = one.cell
        alone = first.setdefault((one.contender, cell["work"], cell["loop"]), one)
        rows.append(
            [
                one.contender,
                f"{cell['work'] * 1e6:.0f}",
                cell["loop"].partition("-")[0],
                str(cell["others"]),
                one.shown("cpu_rate", 1e-3, 1),
                f"{one.median('cpu_rate') / alone.median('cpu_rate'):.2f}",
                *(one.shown(name, 1e3) for name in ("tick_50", "tick_99", "tick_cpu_99")),
                *(one.shown(name, 1e3) for name in ("echo_99", "c_echo_99")),
                one.shown("jain", 1, 3),
                one.shown("least_of_most"),
            ]
        )
    rows.sort(key=lambda row: (row[2], KINDS.index(row[0]), row[1], int(row[3])))
    header = ["", "work us", "loop", "n", "1000 per CPU s", "of least n", "tick 50 % ms"]
    header += ["99 %", "by CPU", "echo 99 % ms", "C's", "Jain", "min/max"]
    print_table(title, header, rows)


if __name__ == "__main__":
    main()
