"""The drop-in, call by call, beside `zmq.green` and blocking pyzmq."""

from __future__ import annotations

from measure import Figures, arguments, compare, print_table

CONTENDERS = ["pyzmq", "gzmqsource.green", "zmq.green"]


def main() -> None:
    chosen = arguments(__doc__)
    calls = {
        "recv": ("receive_frames", {"frames": 1}),
        "recv_multipart, 3 frames": ("receive", {"frames": 3}),
        "send": ("send_frames", {"frames": 1}),
        "send_multipart, 3 frames": ("send", {"frames": 3}),
        "round trip": ("roundtrip", {"frames": 1}),
        "Poller.poll, 100 sockets": ("poll", {"others": 100}),
    }
    rows = []
    for call, (question, cell) in calls.items():
        figures = compare(f"green {question}", question, [cell], lambda _: CONTENDERS, chosen)
        rows += show(call, {one.contender: one for one in figures})
    header = ["", "", "1000/s", "of pyzmq", "of zmq.green", "CPU us/message"]
    print_table("The drop-in, tcp, 32 B; Poller over inproc", header, rows)


def show(call: str, row: dict[str, Figures]) -> list[list[str]]:
    plain, green = row["pyzmq"].median("rate"), row["zmq.green"].median("rate")
    return [
        [
            call,
            name,
            one.shown("rate", 1e-3, 1),
            f"{one.median('rate') / plain:.2f}",
            f"{one.median('rate') / green:.1f}",
            one.shown("cpu_per_message", 1e6),
        ]
        for name, one in row.items()
    ]


if __name__ == "__main__":
    main()
