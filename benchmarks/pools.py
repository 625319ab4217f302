"""What a message costs where handlers run: in order, in 100 greenlets, in a pool of 100."""

from __future__ import annotations

from measure import arguments, compare, print_table

#: What a handler does: each so-many-th call waits.
HANDLERS = {0: "returns at once", 10: "one in ten waits 1 ms", 1: "waits 1 ms"}


def main() -> None:
    chosen = arguments(__doc__)
    chosen.runs = min(chosen.runs, 3)
    cells = [
        {"spawn": spawn, "every": every, "seconds": chosen.seconds}
        for every in (list(HANDLERS)[::2] if chosen.short else HANDLERS)
        for spawn in ("None", "int", "Pool")
    ]
    names = ["Source", "Responder"]
    figures = compare("pools", "pools", cells, lambda _: names, chosen, calibrate=False)
    in_order = {
        (one.contender, one.cell["every"]): one for one in figures if one.cell["spawn"] == "None"
    }
    rows = []
    for one in sorted(figures, key=lambda one: names.index(one.contender)):
        alone = in_order[one.contender, one.cell["every"]]
        cpu = one.median("thread_cpu_per_message")
        rows.append(
            [
                one.contender,
                HANDLERS[one.cell["every"]],
                {"None": "None", "int": "100", "Pool": "Pool(100)"}[one.cell["spawn"]],
                one.shown("thread_cpu_per_message", 1e6),
                f"{alone.median('thread_cpu_per_message') / cpu:.2f}",
                one.shown("rate", 1e-3, 1),
                f"{one.median('rate') / alone.median('rate'):.2f}",
            ]
        )
    header = ["", "a handler", "spawn", "CPU us/message", "None's of it", "1000/s", "of None"]
    print_table("Where handlers run, tcp, 32 B", header, rows)


if __name__ == "__main__":
    main()
