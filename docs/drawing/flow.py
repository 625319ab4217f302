"""Where messages go: through one socket, through a pool, and through a proxy or a broker."""

from __future__ import annotations

from drawing.canvas import WIDTH, Canvas


def flow(on: Canvas) -> None:
    """One socket, from the kernel to the handlers and back."""
    p = on.palette
    into, out = p.blue, p.vermilion
    on.text(12, 22, "Messages in", bold=True, color=into)
    on.text(WIDTH - 12, 22, "Messages out", bold=True, color=out, align="end")
    on.box(60, 34, 370, 38, "kernel: TCP buffers of each connection", bold=False)
    on.box(60, 104, 370, 38, "libzmq's I/O thread", bold=True)
    on.arrow((120, 72), (120, 102), color=into)
    on.arrow((370, 104), (370, 74), color=out)
    on.arrow((120, 142), (120, 174), color=into)
    on.arrow((370, 176), (370, 144), color=out)
    on.text(120, 192, "pipes in", align="middle", bold=True)
    on.slots(70, 200, 6, 4, color=into)
    on.text(120, 232, "RCVHWM for each peer", align="middle", size=12, color=p.muted)
    on.text(370, 192, "pipes out", align="middle", bold=True)
    on.slots(320, 200, 6, 2, color=out)
    on.text(370, 232, "SNDHWM for each peer", align="middle", size=12, color=p.muted)
    on.arrow((245, 142), (245, 180), dashed=True)
    on.box(203, 182, 84, 42, "ZMQ_FD\nmailbox", color=p.green)
    on.line((12, 252), (WIDTH - 12, 252), dashed=True, color=p.muted)
    on.text(12, 271, "the hub's thread", size=12, color=p.muted)
    on.arrow((245, 224), (245, 280), dashed=True, color=p.green)
    on.box(185, 282, 120, 44, "hub watcher\nan edge: try again", color=p.green)
    on.arrow((120, 242), (120, 350), color=into)
    on.arrow((370, 352), (370, 242), color=out)
    on.arrow((205, 326), (205, 371), (186, 371), dashed=True, color=p.green)
    on.arrow((285, 326), (285, 371), (304, 371), dashed=True, color=p.green)
    on.box(56, 352, 128, 46, "reader\nuntil EAGAIN", color=into)
    on.box(306, 352, 128, 46, "flusher\nuntil EAGAIN", color=out)
    on.arrow((120, 398), (120, 432), color=into)
    on.arrow((370, 434), (370, 400), color=out)
    on.box(20, 434, 200, 62, "handlers\nin order, in N worker\ngreenlets or in a pool", color=into)
    on.box(292, 434, 156, 62, "outbox\n1000 messages,\na lane for each peer", color=out)
    on.arrow((220, 465), (290, 465), color=out)
    on.text(255, 457, "send()", align="middle", size=12, mono=True)
    on.arrow((180, 496), (180, 512), (472, 512), (472, 207), (424, 207), color=out, dashed=True)
    on.text(196, 529, "send() with nothing queued ahead", size=12, color=p.muted)


def crew(on: Canvas, top: float, states: list[str], waiting: int, *, reads: bool) -> None:
    """Draw senders, the queue in libzmq, and four workers in the states that are given."""
    p = on.palette
    for number in range(3):
        on.box(12, top + number * 44, 74, 34, "sender", bold=False)
        on.arrow((86, top + 17 + number * 44), (128, top + 61), color=p.blue, dashed=not reads)
    on.text(178, top + 42, "libzmq", align="middle", bold=True)
    on.slots(131, top + 54, 6, waiting, color=p.blue)
    on.text(178, top + 86, "RCVHWM", align="middle", size=12, color=p.muted)
    for number, state in enumerate(states):
        leads, busy = state == "leads: reads", state == "in a handler"
        y = top - 6 + number * 38
        color = p.vermilion if busy else p.green if leads else None
        on.box(318, y, 158, 32, "", color=color)
        on.text(328, y + 21, str(number + 1), bold=True, color=color or p.muted)
        on.text(346, y + 21, state, color=p.ink if busy or leads else p.muted)
        if leads:
            on.arrow((238, top + 61), (272, top + 61), (272, y + 16), (315, y + 16), color=p.green)
    if not reads:
        on.line((238, top + 61), (300, top + 61), color=p.muted, dashed=True)
        on.line((262, top + 50), (284, top + 72), color=p.vermilion, width=3)
        on.line((284, top + 50), (262, top + 72), color=p.vermilion, width=3)


def pool(on: Canvas) -> None:
    """A source with spawn=4, with a worker that is free and without one."""
    p = on.palette
    on.text(12, 22, "spawn=4, a worker is free", bold=True, size=14)
    crew(on, 48, ["in a handler", "in a handler", "leads: reads", "parked"], 2, reads=True)
    on.text(
        12,
        208,
        "One worker reads and calls the handler. When that waits, the next",
        size=12.5,
        color=p.muted,
    )
    on.text(
        12,
        224,
        "worker leads. A handler that does not wait costs no switch.",
        size=12.5,
        color=p.muted,
    )
    on.line((12, 244), (WIDTH - 12, 244))
    on.text(12, 270, "spawn=4, all are busy: back pressure", bold=True, size=14)
    crew(on, 296, ["in a handler"] * 4, 6, reads=False)
    on.text(
        12,
        456,
        "Nothing is read. Messages stay with libzmq up to RCVHWM, then with",
        size=12.5,
        color=p.muted,
    )
    on.text(12, 472, "the senders, whose send() waits at SNDHWM.", size=12.5, color=p.muted)


def _workers(on: Canvas, left: float, queues: tuple[int, int], *, credit: bool) -> None:
    """Draw two workers with two places each: one is busy, and one has finished its own."""
    p = on.palette
    for number, (x, busy) in enumerate(((left, 2), (left + 112, 0))):
        on.box(x, 268, 100, 104, "", color=p.vermilion if busy else p.green)
        on.text(x + 50, 288, f"worker {number + 1}", bold=True, align="middle")
        on.text(
            x + 50, 308, "2 in handlers" if busy else "free", align="middle", size=12, color=p.muted
        )
        on.slots(x + 33, 316, 2, busy, color=p.vermilion if busy else p.green)
        if credit:
            on.text(x + 50, 358, f"credit {2 - busy} of 2", align="middle", size=12, color=p.ink)
        else:
            on.slots(x + 16, 340, 4, queues[number], color=p.blue)
            on.text(x + 50, 367, "its queue", align="middle", size=11.5, color=p.muted)


def broker(on: Canvas) -> None:
    """Libzmq's proxy beside a broker: where requests wait."""
    p = on.palette
    for left, name, about in (
        (12, "Proxy", "libzmq's own, any protocol"),
        (256, "Broker", "knows which workers are free"),
    ):
        on.text(left, 22, name, bold=True, size=15)
        on.text(left, 40, about, size=12, color=p.muted)
        on.box(left, 54, 100, 32, "clients", bold=False)
        on.box(left + 112, 54, 100, 32, "clients", bold=False)
        for x in (left + 50, left + 162):
            on.arrow((x, 86), (x, 118), color=p.blue)
    on.line((244, 12), (244, 462))
    on.box(12, 120, 212, 84, "passes each on\nto the next worker in turn", color=p.muted)
    on.box(256, 120, 212, 84, "", color=p.vermilion)
    on.text(362, 141, "requests wait here", bold=True, align="middle")
    on.slots(289, 150, 9, 5, color=p.blue)
    on.text(362, 180, "max_waiting 10,000", align="middle", size=12, color=p.muted)
    on.text(362, 196, "higher priority first", align="middle", size=12, color=p.muted)
    for x in (62, 174):
        on.arrow((x, 204), (x, 266), color=p.blue)
    on.text(118, 240, "in turn", align="middle", size=12, color=p.muted)
    on.arrow((418, 204), (418, 266), color=p.blue)
    on.arrow((330, 266), (330, 206), color=p.green, dashed=True)
    on.arrow((442, 266), (442, 206), color=p.green, dashed=True)
    on.text(322, 232, "credit,", align="end", size=12, color=p.green)
    on.text(322, 247, "replies", align="end", size=12, color=p.green)
    _workers(on, 12, (4, 0), credit=False)
    _workers(on, 256, (0, 0), credit=True)
    on.text(
        12,
        398,
        "Requests wait at a busy worker\nwhile another one is free. A dead\n"
        "worker is noticed by the timeout.",
        size=12.5,
        color=p.muted,
    )
    on.text(
        256,
        398,
        "A worker gets requests up to its\ncredit. If it dies, callers get\n"
        "PeerLost, or they are redelivered.",
        size=12.5,
        color=p.muted,
    )
