"""How late another greenlet and another socket's echo are under a flood, and the flood's rate."""

from __future__ import annotations

from typing import Any

from measure import arguments, compare, print_table


def main() -> None:
    chosen = arguments(__doc__)
    figures = []
    seconds = 2 * chosen.seconds
    for names, rate in (
        (["Source", "Source, unbounded"], 2e6),
        (["zmq.green"], 1e5),
        (["zmq.asyncio"], 6e4),
    ):
        cell = {"count": int(rate * seconds)}
        title = "fairness " + names[0]

        def contenders(_: dict[str, Any], names: list[str] = names) -> list[str]:
            return names

        figures += compare(title, "fairness", [cell], contenders, chosen, calibrate=False)
    rates = {one.contender: one.median("rate") for one in figures}
    rows = [
        [
            one.contender,
            one.shown("rate", 1e-3, 1),
            f"{rates[one.contender] / rates['Source, unbounded']:.2f}",
            *(one.shown(name, 1e3) for name in ("tick_99", "tick_max", "echo_99", "echo_max")),
        ]
        for one in figures
    ]
    header = ["", "1000/s", "of unbounded", "tick 99 % ms", "max", "echo 99 % ms", "max"]
    print_table("Under a flood of 32 B messages, tcp", header, rows)


if __name__ == "__main__":
    main()
