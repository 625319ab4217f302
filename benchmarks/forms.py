"""Each form of a message through the drop-in and through `zmq.green`, taking turns in one process.

A form is copied or not, sent and received by overridden methods or not, as one call or frame by
frame, with 1 to 5 frames. The figures are messages for a second of CPU time of the thread.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Generator
from typing import Any

import zmq.green
from measure import arguments, print_table

import gzmqsource.green

#: How many messages are sent, and then received, before the next contender has its turn.
BATCH = 200


def overriding(plain: type[Any]) -> type[Any]:
    """Return a socket class that overrides what VOLTTRON's overrides."""

    class Socket(plain):
        def send(self, data: Any, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
            return super().send(data, flags, copy, track)

        def recv(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
            return super().recv(flags, copy, track)

    return Socket


def as_one_call(sender: Any, receiver: Any, message: list[bytes], copy: bool) -> None:
    for _ in range(BATCH):
        sender.send_multipart(message, copy=copy)
    for _ in range(BATCH):
        receiver.recv_multipart(copy=copy)


def by_frame(sender: Any, receiver: Any, message: list[bytes], copy: bool) -> None:
    more, last = message[:-1], message[-1]
    for _ in range(BATCH):
        for frame in more:
            sender.send(frame, zmq.SNDMORE, copy=copy)
        sender.send(last, copy=copy)
    for _ in range(BATCH):
        for _ in message:
            receiver.recv(copy=copy)


def exchange(
    module: Any, is_overridden: bool, move: Callable[..., None], message: list[bytes], copy: bool
) -> Generator[float]:
    """Yield the rate of each turn."""
    make = overriding(module.Socket) if is_overridden else module.Socket
    with (
        module.Context() as context,
        make(context, zmq.PULL) as pull,
        make(context, zmq.PUSH) as push,
    ):
        push.linger = 0
        pull.bind("inproc://forms")
        push.connect("inproc://forms")
        while True:
            began = time.thread_time()
            move(push, pull, message, copy)
            yield BATCH / (time.thread_time() - began)


def compare(
    is_overridden: bool, move: Callable[..., None], frames: int, copy: bool, seconds: float
) -> tuple[float, float]:
    """Return the drop-in's median rate, and the median of its ratios to that of `zmq.green`."""
    message = [b"x" * 32] * frames
    with (
        contextlib.closing(exchange(gzmqsource.green, is_overridden, move, message, copy)) as ours,
        contextlib.closing(exchange(zmq.green, is_overridden, move, message, copy)) as theirs,
    ):
        rates = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            rates.append((next(ours), next(theirs)))
    return (
        statistics.median(one for one, _ in rates),
        statistics.median(one / other for one, other in rates),
    )


def main() -> None:
    chosen = arguments(__doc__)
    lengths = (1, 3) if chosen.short else range(1, 6)
    rows = []
    for move, copy, is_overridden, frames in itertools.product(
        (as_one_call, by_frame), (True, False), (False, True), lengths
    ):
        rate, ratio = compare(is_overridden, move, frames, copy, chosen.seconds)
        form = (
            move.__name__.replace("_", " "),
            "copied" if copy else "not copied",
            "overridden" if is_overridden else "",
        )
        rows.append([*form, str(frames), f"{rate / 1000:.0f}", f"{ratio:.2f}"])
    header = ["", "", "", "frames", "1000/s", "of zmq.green"]
    print_table("Each form of a message, inproc, 32 B", header, rows)


if __name__ == "__main__":
    main()
