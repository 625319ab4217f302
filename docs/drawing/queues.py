"""The queues, and the bound that acts on each."""

from __future__ import annotations

from drawing.canvas import WIDTH, Canvas

#: A queue's name, the bounds that act on it, and what happens when it is full.
SENDING = (
    ("callers of send()", "each holds one message", 'wait, with overflow="block"'),
    (
        "outbox: a lane for each peer",
        "outbox 1000, outbox_bytes 16 MiB",
        "max_outbox_bytes 64 MiB for all",
    ),
    ("libzmq: pipes out", "SNDHWM 1000 for each peer", "not bounded in bytes"),
    ("kernel: send buffer", "SNDBUF", ""),
)
RECEIVING = (
    ("kernel: receive buffer", "RCVBUF", ""),
    ("libzmq: pipes in", "RCVHWM 1000 for each peer", "not bounded in bytes"),
    (
        "prefetched for the handler",
        "max_batch 128, max_bytes 128 KiB",
        "nothing for a pulled source",
    ),
    ("handlers", "spawn", "nothing more is read when full"),
)
SERVING = (
    ("Responder: queue", "max_waiting 1000, 16 MiB", "more is refused"),
    ("Broker: queue", "max_waiting 10,000, 16 MiB", "more is refused"),
)


def _column(
    on: Canvas, x: float, top: float, rows: tuple[tuple[str, str, str], ...], color: str
) -> None:
    for number, (name, bound, more) in enumerate(rows):
        y = top + number * 88
        on.box(x, y, 227, 64, "\n".join(filter(None, (name, bound, more))), color=color, size=13)
        if number + 1 < len(rows):
            on.arrow((x + 113, y + 64), (x + 113, y + 86), color=color)


def queues(on: Canvas) -> None:
    p = on.palette
    on.text(12, 24, "Sending", bold=True, size=15, color=p.vermilion)
    on.text(251, 24, "Receiving", bold=True, size=15, color=p.blue)
    _column(on, 12, 38, SENDING, p.vermilion)
    _column(on, 251, 38, RECEIVING, p.blue)
    on.arrow((239, 334), (245, 334), (245, 70), (250, 70), color=p.muted)
    on.text(
        12,
        392,
        "Back pressure goes the other way: handlers are busy, nothing is read,\n"
        "RCVHWM fills, the kernel's buffers fill, SNDHWM fills, the outbox fills,\n"
        "and send() waits.",
        size=12.5,
        color=p.muted,
    )
    on.line((12, 442), (WIDTH - 12, 442))
    on.text(12, 464, "Requests that wait for a worker", bold=True, size=13, color=p.green)
    for x, (name, bound, more) in zip((12, 251), SERVING, strict=True):
        on.box(x, 476, 227, 64, f"{name}\n{bound}\n{more}", color=p.green)
