"""What a message to a peer that reads costs beside 1 to 1000 others that are full."""

from __future__ import annotations

from measure import Figures, arguments, compare, print_table


def main() -> None:
    chosen = arguments(__doc__)
    chosen.runs = min(chosen.runs, 3)
    counts = (1, 400) if chosen.short else (1, 10, 100, 400, 1000)
    cells = [{"others": others, "seconds": chosen.seconds} for others in counts]
    names = ["Source", "gzmqsource.green"]
    figures = compare("peers", "peers", cells, lambda _: names, chosen, calibrate=False)
    cells = [cell | {"others": others} for cell, others in zip(cells, (0, 300), strict=False)]
    names = ["Responder"]
    if not chosen.short:
        chosen.runs = 7
    figures += compare("clients", "peers", cells, lambda _: names, chosen, calibrate=False)
    first: dict[str, Figures] = {}
    rows = []
    for one in sorted(figures, key=lambda one: one.contender):
        least = first.setdefault(one.contender, one)
        rows.append(
            [
                one.contender,
                str(one.cell["others"]),
                one.shown("thread_cpu_per_message", 1e6, 1),
                f"{one.ratio('thread_cpu_per_message', least):.2f}",
                one.shown("rate", 1, 0),
                f"{one.ratio('rate', least):.2f}",
                one.shown("delay_99", 1e3),
                one.shown("idle_cpu", 100, 3),
            ]
        )
    header = ["", "full peers", "CPU us/message", "of least n", "a second", "of least n"]
    header += ["99 % ms", "idle CPU %"]
    print_table("A round trip of an honest peer, REQ over tcp, 32 B", header, rows)


if __name__ == "__main__":
    main()
