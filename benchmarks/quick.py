"""Rates of a source beside zmq.green's, in one run, over TCP from and to other processes.

Receiving is measured on a full queue: the peer has sent everything, and libzmq holds it, before
the clock starts, so that the peer's own speed does not count. Sending is measured without a
high-water mark, for the same reason. The two take turns, and the medians are compared. The number
of messages is checked at both ends.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import gevent.event
import zmq
import zmq.green

from gzmqsource import Source, transfer

SENDER = """
import sys, zmq
endpoint, count, frames = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with zmq.Context() as context:
    with context.socket(zmq.PUSH) as push:
        push.sndhwm = 0
        push.connect(endpoint)
        for _ in range(count):
            push.send_multipart([b"x" * 32] * frames)
print("sent")
"""

RECEIVER = """
import sys, zmq
endpoint, count, frames = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with zmq.Context() as context:
    with context.socket(zmq.PULL) as pull:
        pull.rcvhwm = 0
        pull.connect(endpoint)
        for _ in range(count):
            assert len(pull.recv_multipart()) == frames
print("received")
"""


def start_peer(program: str, endpoint: str, count: int, frames: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, endpoint, str(count), str(frames)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish_peer(peer: subprocess.Popen[str], expected: str) -> None:
    output, _ = peer.communicate(timeout=120)
    if peer.returncode or output.strip() != expected:
        raise SystemExit(f"the peer failed: exit status {peer.returncode}, output {output!r}")


def receive_with_source(count: int, frames: int) -> float:
    left = count
    finished = gevent.event.Event()

    def handle(message: list[bytes]) -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    with (
        zmq.Context() as context,
        Source.open(
            zmq.PULL, handle, bind="tcp://127.0.0.1:*", context=context, rcvhwm=0
        ) as source,
    ):
        endpoint = source.socket.LAST_ENDPOINT.decode()
        finish_peer(start_peer(SENDER, endpoint, count, frames), "sent")
        started = time.perf_counter()
        source.start()
        finished.wait()
        return count / (time.perf_counter() - started)


def receive_with_green(count: int, frames: int) -> float:
    with zmq.green.Context() as context, context.socket(zmq.PULL) as pull:
        pull.rcvhwm = 0
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        finish_peer(start_peer(SENDER, f"tcp://127.0.0.1:{port}", count, frames), "sent")
        started = time.perf_counter()
        for _ in range(count):
            pull.recv_multipart()
        return count / (time.perf_counter() - started)


def send_with_source(count: int, frames: int) -> float:
    message = [b"x" * 32] * frames
    with (
        zmq.Context() as context,
        Source.open(zmq.PUSH, bind="tcp://127.0.0.1:*", context=context, sndhwm=0) as source,
    ):
        peer = start_peer(RECEIVER, source.socket.LAST_ENDPOINT.decode(), count, frames)
        source.send(message)
        source.flush()
        started = time.perf_counter()
        for _ in range(count - 1):
            source.send(message)
        source.flush()
        rate = count / (time.perf_counter() - started)
        finish_peer(peer, "received")
        return rate


def send_with_green(count: int, frames: int) -> float:
    message = [b"x" * 32] * frames
    with zmq.green.Context() as context, context.socket(zmq.PUSH) as push:
        push.sndhwm = 0
        port = push.bind_to_random_port("tcp://127.0.0.1")
        peer = start_peer(RECEIVER, f"tcp://127.0.0.1:{port}", count, frames)
        push.send_multipart(message)
        started = time.perf_counter()
        for _ in range(count - 1):
            push.send_multipart(message)
        rate = count / (time.perf_counter() - started)
        finish_peer(peer, "received")
        return rate


Measure = Callable[[int, int], float]

QUESTIONS: dict[str, tuple[Measure, Measure]] = {
    "receive": (receive_with_source, receive_with_green),
    "send": (send_with_source, send_with_green),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="messages in each run")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, taking turns")
    arguments = parser.parse_args()
    print(f"32-byte frames, tcp, {arguments.count} messages, median of {arguments.runs} runs, M/s")
    print(f"transfer: {transfer.backend}\n")
    print(f"{'':<20}{'Source':>10}{'zmq.green':>12}{'ratio':>8}{'spread of the ratio':>24}")
    for question, (source, green) in QUESTIONS.items():
        for frames in (1, 3):
            pairs = [
                (source(arguments.count, frames), green(arguments.count, frames))
                for _ in range(arguments.runs)
            ]
            ours, theirs = (statistics.median(rates) for rates in zip(*pairs, strict=True))
            ratios = sorted(a / b for a, b in pairs)
            name = f"{question}, {frames} frame{'s' if frames > 1 else ''}"
            print(
                f"{name:<20}{ours / 1e6:>10.2f}{theirs / 1e6:>12.2f}"
                f"{statistics.median(ratios):>8.1f}{ratios[0]:>16.1f} to {ratios[-1]:.1f}"
            )


if __name__ == "__main__":
    main()
