"""Messages through a proxy beside the hub, and through libzmq's own proxy in a C program."""

from __future__ import annotations

from measure import arguments, compare, print_table

CONTENDERS = ["C program", "Proxy"]


def main() -> None:
    chosen = arguments(__doc__)
    cells = [{"size": size, "frames": frames} for size, frames in ((32, 1), (32, 3), (1024, 1))]
    figures = compare("proxy", "proxy", cells, lambda _: CONTENDERS, chosen)
    rows = []
    for c, ours in zip(figures[::2], figures[1::2], strict=True):
        cell = f"{ours.cell['frames']} x {ours.cell['size']} B"
        ratios = [a / b for a, b in zip(ours.of("rate"), c.of("rate"), strict=True)]
        ratio = ours.median("rate") / c.median("rate")
        spread = (max(ratios) - min(ratios)) / 2
        late = [one.shown(name, 1e3) for name in ("tick_99", "tick_max") for one in (c, ours)]
        rates = [one.shown("rate", 1e-3, 0) for one in (c, ours)]
        rows.append([cell, *rates, f"{ratio:.2f} ±{spread:.2f}", *late])
    late_columns = ["tick 99 % late ms, C", "Proxy", "max, C", "Proxy"]
    header = ["tcp", "C program, 1000/s", "Proxy", "of C", *late_columns]
    print_table("From a C program through a proxy to another", header, rows)


if __name__ == "__main__":
    main()
