"""The phases of a stop, over the time that it has."""

from __future__ import annotations

from drawing.canvas import WIDTH, Canvas

#: Where the time begins and ends in the picture.
BEGIN, END = 104, 478

#: The name of each phase, the shares of the time at which it begins and ends at the latest, what
#: happens in it, and its colour.
PHASES = (
    (
        "drain",
        0.0,
        0.5,
        "bound; reads until 0.25 s are quiet,\nfor half of the time at most",
        "blue",
    ),
    (
        "unbind",
        0.5,
        0.75,
        "PULL and SUB only: no new messages;\nreads libzmq's queue, half of the rest",
        "sky",
    ),
    ("handlers", 0.75, 0.975, "nothing more is read; handlers finish,\nand may send", "orange"),
    (
        "flush",
        0.86,
        0.975,
        "the outbox goes to libzmq, in the same\ntime; then unread messages are counted",
        "vermilion",
    ),
    (
        "linger",
        0.975,
        1.0,
        "libzmq sends its messages; a tenth of\nthe rest is kept for it, at most 0.25 s",
        "purple",
    ),
)


def at(share: float) -> float:
    return BEGIN + share * (END - BEGIN)


def stop(on: Canvas) -> None:
    p = on.palette
    on.text(12, 24, "stop(timeout): one deadline, at the latest", bold=True, size=14)
    on.line((BEGIN, 52), (END, 52), color=p.muted)
    for share, name in ((0, "0"), (0.5, "½"), (0.75, "¾"), (1, "timeout")):
        on.line((at(share), 47), (at(share), 396), color=p.faint, width=1)
        align = "end" if share == 1 else "middle"
        on.text(at(share), 43, name, align=align, size=12, color=p.muted)
    for number, (name, begin, end, what, color) in enumerate(PHASES):
        y = 62 + number * 68
        on.text(12, y + 15, name, bold=True)
        on.box(at(begin), y, at(end) - at(begin), 20, color=getattr(p, color), filled=True)
        on.text(at(0) + 6, y + 37, what, size=12.5)
    y = 62 + len(PHASES) * 68
    on.text(12, y + 15, "close", bold=True)
    on.line((at(1), y - 4), (at(1), y + 16), color=p.ink, width=3)
    on.text(at(0) + 6, y + 15, "the endpoint is free for the next bind()", size=12.5)
    y += 34
    on.line((12, y), (WIDTH - 12, y))
    rows = (
        (
            "messages of peers",
            "read while it drains; then they stay\nwith the peers of a PULL or SUB",
        ),
        ("handlers", "killed and counted when their time ends"),
        ("your send()", "works until the socket is closed"),
        ("left in the outbox", "returned by stop()"),
        ("unread in libzmq", "counted in stats().dropped, and logged"),
    )
    y += 24
    for name, what in rows:
        on.text(12, y, name, bold=True)
        on.text(160, y, what)
        y += 22 + 16 * what.count("\n")
    on.text(
        12,
        y + 4,
        "A phase that ends early leaves its time to those that follow: an idle source\n"
        "stops at once.",
        size=12.5,
        color=p.muted,
    )
