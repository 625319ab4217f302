"""What 0, 100, 1000 and 5000 idle sources cost a busy one, in CPU, and in memory."""

from __future__ import annotations

from measure import arguments, compare, print_table


def main() -> None:
    chosen = arguments(__doc__)
    counts = [0, 1000] if chosen.short else [0, 100, 1000, 5000]
    count = int(2e6 * chosen.seconds)
    cells = [{"others": others, "count": count} for others in counts]
    figures = compare("idle", "idle", cells, lambda _: ["Source"], chosen, calibrate=False)
    cells = [cell | {"count": count // 20} for cell in cells]
    figures += compare(
        "idle green", "idle", cells, lambda _: ["zmq.green"], chosen, calibrate=False
    )
    alone = {one.contender: one.median("rate") for one in figures if not one.cell["others"]}
    rows = [
        [
            one.contender,
            str(one.cell["others"]),
            one.shown("rate", 1e-3, 1),
            f"{one.median('rate') / alone[one.contender]:.2f}",
            one.shown("idle_cpu", 100, 3),
            one.shown("bytes_each", 1 / 1024),
            one.shown("bytes_each_waited_on", 1 / 1024),
        ]
        for one in figures
    ]
    header = ["", "idle", "1000/s", "of alone", "idle CPU %", "KB each", "waited on"]
    print_table("One busy source beside idle ones, tcp, 32 B", header, rows)


if __name__ == "__main__":
    main()
