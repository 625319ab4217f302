"""What good messages keep of their rate beside ten peers whose messages make the handler raise."""

from __future__ import annotations

from measure import arguments, compare, print_table


def main() -> None:
    chosen = arguments(__doc__)
    chosen.runs = min(chosen.runs, 5)
    cells = [
        {"spawn": spawn, "others": others, "seconds": max(1.0, chosen.seconds)}
        for spawn in ("None", "int", "Pool")
        for others in (0, 10)
    ]
    figures = compare("bad", "bad", cells, lambda _: ["Source"], chosen, calibrate=False)
    beside_good = {one.cell["spawn"]: one for one in figures if not one.cell["others"]}
    rows = [
        [
            {"None": "None", "int": "10", "Pool": "Pool(10)"}[one.cell["spawn"]],
            "raise" if one.cell["others"] else "are handled",
            one.shown("rate", 1, 0),
            f"{one.ratio('rate', beside_good[one.cell['spawn']]):.2f}",
            one.shown("thread_cpu_per_message", 1e6, 1),
        ]
        for one in figures
    ]
    header = ["spawn", "those of ten others", "a second", "of beside good", "CPU us/message"]
    print_table("Messages of one peer, 1000 a second of each, tcp", header, rows)


if __name__ == "__main__":
    main()
