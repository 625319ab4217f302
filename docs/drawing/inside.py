"""The inside: the edge of libzmq's descriptor, and the floors of the package."""

from __future__ import annotations

from drawing.canvas import Canvas

BEGIN, END = 96, 478


def _wave(
    on: Canvas, base: float, steps: list[tuple[float, int]], height: float, color: str
) -> None:
    """Draw a level over time: at each x it becomes so many."""
    points = [(BEGIN + 0.0, base)]
    level = 0
    for x, new in steps:
        points += [(x, base - level * height), (x, base - new * height)]
        level = new
    points += [(END, base - level * height)]
    on.area([*points, (END, base)], color)
    on.line(*points, color=color, width=2)


def edge(on: Canvas) -> None:
    """Three peers send; the descriptor is readable until any call reads the mailbox."""
    p = on.palette
    sends = {"A": 130.0, "B": 180.0, "C": 300.0}
    recv, send = 240.0, 362.0
    for y, name in (
        (42, "peers\nsend"),
        (104, "commands\nwaiting"),
        (166, "ZMQ_FD\nreadable"),
        (228, "messages\nto receive"),
        (296, "your\ngreenlets"),
    ):
        on.text(12, y - 4, name, color=p.muted)
    on.line((BEGIN, 42), (END, 42))
    for name, x in sends.items():
        on.dot(x, 42, name, p.blue)
        on.arrow((x, 55), (x, 76), color=p.blue)
    blue, red, green = p.blue, p.vermilion, p.green
    _wave(on, 116, [(130, 1), (180, 2), (recv, 0), (300, 1), (send, 0)], 15, blue)
    _wave(on, 178, [(130, 1), (recv, 0), (300, 1), (send, 0)], 26, red)
    _wave(on, 242, [(130, 1), (180, 2), (recv, 1), (300, 2)], 15, green)
    on.line((BEGIN, 298), (END, 298))
    for x, name in ((recv, "recv: A"), (send, "a send")):
        on.arrow((x, 284), (x, 184), dashed=True)
        on.box(x - 34, 284, 68, 28, name, color=p.muted)
    on.box(404, 284, 76, 28, "B, C wait", color=red, bold=True)
    on.text(recv - 80, 334, "recv reads the mailbox\nand takes one message", size=12.5)
    on.text(send - 28, 334, "send reads it, too:", size=12.5)
    on.text(send - 28, 350, "C's edge is lost", size=12.5)
    on.text(
        12,
        378,
        "B and C are there, but the descriptor is silent:\n"
        "a greenlet that waits for it waits forever.",
        color=red,
        bold=True,
    )


FLOORS = (
    (5, [[("cli/", "the gzmqsource command", True)]]),
    (
        4,
        [
            [
                ("workers/", "requests", True),
                ("broker/", "balancing", True),
                ("proxy", "in libzmq", True),
            ],
            [
                ("monkey/", "patch_zmq", True),
                ("gunicorn", "a worker", True),
                ("testing", "a test kit", True),
            ],
            [("monitor", "events", True), ("auth", "ZAP", True), ("metrics", "series", True)],
        ],
    ),
    (3, [[("_source/", "Source, Sender, Stats", False), ("green/", "for zmq.green", True)]]),
    (2, [[("_socket/", "HubSocket: one libzmq socket in one hub", False)]]),
    (1, [[("transfer/", "messages to and from libzmq, in C or in Python", True)]]),
    (0, [[("_base/", "waiting, threads, the fork hook", False), ("errors", "exceptions", True)]]),
)


def house(on: Canvas) -> None:
    """The floors of the package: imports go down."""
    p = on.palette
    y, left, width = 12.0, 38.0, 404.0
    for floor, rows in FLOORS:
        height = 50 * len(rows)
        on.text(12, y + height / 2 + 3, str(floor), bold=True, size=16, color=p.muted)
        for row in rows:
            each = (width - 8 * (len(row) - 1)) / len(row)
            for number, (name, about, is_public) in enumerate(row):
                x = left + number * (each + 8)
                on.box(
                    x,
                    y,
                    each,
                    44,
                    f"{name}\n{about}",
                    color=p.blue if is_public else p.muted,
                    dashed=not is_public,
                )
            y += 50
        if floor == 3:
            on.line(
                (left + width / 2, y - 52),
                (left + width / 2, y - 4),
                color=p.vermilion,
                width=2.5,
                dashed=True,
            )
        y += 8
    on.box(left, y, width, 30, "gevent · pyzmq · libzmq", bold=False)
    on.arrow((462, 20), (462, y + 24))
    y += 52
    on.box(left, y - 12, 18, 15, color=p.blue)
    on.text(left + 26, y, "public")
    on.box(left + 86, y - 12, 18, 15, color=p.muted, dashed=True)
    on.text(left + 112, y, "private")
    on.line((left + 182, y - 14), (left + 182, y + 5), color=p.vermilion, width=2.5, dashed=True)
    on.text(left + 192, y, "neither imports the other")
    on.text(
        left,
        y + 24,
        "Imports go down, never up.",
        size=12.5,
        color=p.muted,
    )
