"""How many messages a second go one way, in and out, through each library."""

from __future__ import annotations

from typing import Any

from measure import Figures, arguments, by_cell, compare, print_table

RIVALS = ["zmq.green", "eventlet", "zerorpc", "zmq.asyncio", "ZMQStream", "aiozmq"]


def receivers(cell: dict[str, Any]) -> list[str]:
    """Everybody with small messages over TCP; elsewhere those that the goals name."""
    rivals = RIVALS if cell["transport"] == "tcp" and cell["size"] == 32 else RIVALS[:1]
    frames = ["pyzmq, copy=False", "Source, copy=False"] if cell["size"] >= 1 << 16 else []
    return ["C", "pyzmq", "Source", "Source, pulled", *rivals, *frames]


def senders(cell: dict[str, Any]) -> list[str]:
    return [
        name for name in receivers(cell) if name not in ("Source, pulled", "Source, copy=False")
    ]


def show(title: str, figures: list[Figures]) -> None:
    rows = []
    for cell, row in by_cell(figures).items():
        c, green = row["C"].median("rate"), row["zmq.green"].median("rate")
        for name, one in row.items():
            rate = one.median("rate")
            rows.append(
                [
                    cell,
                    name,
                    one.shown("rate", 1e-3, 1),
                    f"{rate / c:.2f}",
                    f"{rate / row['pyzmq'].median('rate'):.2f}",
                    f"{rate / green:.1f}",
                    one.shown("cpu_per_message", 1e6),
                ]
            )
    header = ["", "", "1000/s", "of C", "of pyzmq", "of zmq.green", "CPU us/message"]
    print_table(title, header, rows)


def main() -> None:
    chosen = arguments(__doc__)
    cells = [
        {"transport": transport, "size": size, "frames": frames}
        for transport in (["tcp"] if chosen.short else ["tcp", "ipc", "inproc"])
        for size in ([32] if chosen.short else [32, 1 << 10, 1 << 16, 1 << 20])
        for frames in ((3,) if chosen.short else (1, 3))
    ]
    show("receive", compare("receive", "receive", cells, receivers, chosen))
    show("send", compare("send", "send", cells, senders, chosen))


if __name__ == "__main__":
    main()
