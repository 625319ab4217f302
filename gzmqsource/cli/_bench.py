"""``bench``: the rates of a source and of zmq.green, over TCP to and from other processes.

Receiving is measured on a full queue: before the clock starts, the peer has sent everything and
libzmq holds it, so the peer's own speed does not count. Sending is measured without a high-water
mark, for the same reason. The two are measured in turn, and the medians are compared. The number of
messages is checked at both ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import zmq
import zmq.green
from gevent.event import Event
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table

from gzmqsource import transfer
from gzmqsource._source.source import Source
from gzmqsource.cli._live import ForegroundLive, LiveConsole

_ENDPOINT = "tcp://127.0.0.1:*"

#: How the programs of the other processes begin. A Ctrl-C is for this process, and they end with
#: it, as their input does: they would wait forever for one that was killed.
_BEGIN = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import sys, threading, zmq
threading.Thread(target=lambda: os._exit(len(os.read(0, 1))), daemon=True).start()
endpoint, count, frames = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
"""

#: The programs themselves, which send or receive all messages.
_SENDER = """
with zmq.Context() as context:
    with context.socket(zmq.PUSH) as push:
        push.sndhwm = 0
        push.connect(endpoint)
        for _ in range(count):
            push.send_multipart([b"x" * 32] * frames)
"""
_RECEIVER = """
with zmq.Context() as context:
    with context.socket(zmq.PULL) as pull:
        pull.rcvhwm = 0
        pull.connect(endpoint)
        for _ in range(count):
            assert len(pull.recv_multipart()) == frames
"""

#: The most seconds that a peer may take.
_PATIENCE = 120.0

#: The messages of a run, at least and at most. A hundred take 0.1 ms, and a switch of the operating
#: system as long; five million of three frames are a gigabyte in libzmq, which holds them all.
_COUNTS = (1000, 5_000_000)

_Rates = list[float]


@click.command()
@click.option(
    "--count",
    type=click.IntRange(*_COUNTS),
    default=50_000,
    show_default=True,
    help="The number of messages in each run.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="The number of runs of each measurement.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Also draw the rates into a file (.svg, .png, .pdf). This needs matplotlib.",
)
def bench(count: int, runs: int, plot: Path | None) -> None:
    """Measure the rates of a source and of zmq.green on this machine.

    Frames of 32 bytes pass over TCP to and from other processes. The two are measured in turn, so
    that the ratio is meaningful where the rates are not.

    \b
    Example:
      gzmqsource bench --plot rates.svg
    """
    draw = None if plot is None else _drawing(plot)
    results: dict[str, tuple[_Rates, _Rates]] = {}
    total, done = len(_QUESTIONS) * 2 * runs, 0
    with ForegroundLive(LiveConsole(stderr=True), transient=True) as live:
        for question, (source, green) in _QUESTIONS.items():
            for frames in (1, 3):
                name = f"{question}, {frames} frame{'s' if frames > 1 else ''}"
                live.show(_progress(name, done, total))
                rates: tuple[_Rates, _Rates] = ([], [])
                for _ in range(runs):
                    for measure, measured in zip((source, green), rates, strict=True):
                        measured.append(measure(count, frames))
                    done += 1
                    live.show(_progress(name, done, total))
                results[name] = rates
    console = Console()
    console.print(
        f"million messages a second: median of {runs} runs of {count} messages, "
        f"{transfer.backend} transfer",
        soft_wrap=not console.is_terminal,
    )
    console.print(_table(results))
    if draw is not None:
        draw(results)
        click.echo(f"drawn into {plot}")


def _progress(name: str, done: int, total: int) -> Table:
    line = Table.grid(padding=(0, 1))
    line.add_row(name, ProgressBar(total=total, completed=done, width=30), f"{done} of {total}")
    return line


def _receive_with_source(count: int, frames: int) -> float:
    left = count
    finished = Event()

    def handle(_message: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    with (
        zmq.Context() as context,
        Source.open(zmq.PULL, handle, bind=_ENDPOINT, context=context, rcvhwm=0) as source,
    ):
        _finish(_peer(_SENDER, source.socket, count, frames))
        started = time.perf_counter()
        source.start()
        finished.wait()
        return count / (time.perf_counter() - started)


def _receive_with_green(count: int, frames: int) -> float:
    with zmq.green.Context() as context, context.socket(zmq.PULL) as pull:
        pull.rcvhwm = 0
        pull.bind(_ENDPOINT)
        _finish(_peer(_SENDER, pull, count, frames))
        started = time.perf_counter()
        for _ in range(count):
            pull.recv_multipart()
        return count / (time.perf_counter() - started)


def _send_with_source(count: int, frames: int) -> float:
    message = [b"x" * 32] * frames
    with (
        zmq.Context() as context,
        Source.open(zmq.PUSH, bind=_ENDPOINT, context=context, sndhwm=0) as source,
    ):
        peer = _peer(_RECEIVER, source.socket, count, frames)
        # The first message waits until the peer has connected.
        source.send(message)
        source.flush()
        started = time.perf_counter()
        for _ in range(count - 1):
            source.send(message)
        source.flush()
        rate = count / (time.perf_counter() - started)
        _finish(peer)
        return rate


def _send_with_green(count: int, frames: int) -> float:
    message = [b"x" * 32] * frames
    with zmq.green.Context() as context, context.socket(zmq.PUSH) as push:
        push.sndhwm = 0
        push.bind(_ENDPOINT)
        peer = _peer(_RECEIVER, push, count, frames)
        push.send_multipart(message)
        started = time.perf_counter()
        for _ in range(count - 1):
            push.send_multipart(message)
        rate = count / (time.perf_counter() - started)
        _finish(peer)
        return rate


_QUESTIONS: dict[str, tuple[Callable[[int, int], float], Callable[[int, int], float]]] = {
    "receive": (_receive_with_source, _receive_with_green),
    "send": (_send_with_source, _send_with_green),
}


def _peer(program: str, socket: Any, count: int, frames: int) -> subprocess.Popen[bytes]:
    endpoint = socket.get(zmq.LAST_ENDPOINT).decode()
    words = (sys.executable, "-c", _BEGIN + program, endpoint, str(count), str(frames))
    return subprocess.Popen(words, stdin=subprocess.PIPE)


def _finish(peer: subprocess.Popen[bytes]) -> None:
    with peer:
        try:
            status = peer.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            peer.kill()
            text = f"the process at the other end is not done within {_PATIENCE:g} s"
            raise click.ClickException(text) from None
    if status:
        raise click.ClickException(f"the process at the other end failed with status {status}")


def _table(results: dict[str, tuple[_Rates, _Rates]]) -> Table:
    most = max(median(rates) for pair in results.values() for rates in pair)
    table = Table(box=None)
    for name in ("", "", "M/s", "", "ratio"):
        table.add_column(name, justify="right" if name else "left")
    for question, pair in results.items():
        ratios = sorted(ours / theirs for ours, theirs in zip(*pair, strict=True))
        ratio = f"{median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        for name, rates, cells in (
            ("Source", pair[0], (question, ratio)),
            ("zmq.green", pair[1], ("", "")),
        ):
            bar = ProgressBar(total=most, completed=median(rates), width=30)
            table.add_row(cells[0], name, f"{median(rates) / 1e6:.2f}", bar, cells[1])
    return table


def _drawing(path: Path) -> Callable[[dict[str, tuple[_Rates, _Rates]]], None]:
    """Return a function that draws, or fail before minutes of measuring."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise click.ClickException("--plot needs a package: pip install matplotlib") from error
    if not os.access(path.parent, os.W_OK):
        raise click.ClickException(f"{path.parent}: cannot write there")
    figure = matplotlib.figure.Figure(figsize=(7, 3.5), layout="tight")
    kinds = figure.canvas.get_supported_filetypes()
    if path.suffix[1:] not in kinds:
        raise click.ClickException(f"{path}: the suffix is not one of {', '.join(sorted(kinds))}")

    def draw(results: dict[str, tuple[_Rates, _Rates]]) -> None:
        axes = figure.subplots()
        for offset, name, index in ((-0.2, "Source", 0), (0.2, "zmq.green", 1)):
            rates = [median(pair[index]) / 1e6 for pair in results.values()]
            bars = axes.barh([row + offset for row in range(len(rates))], rates, 0.4, label=name)
            axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set_yticks(range(len(results)), list(results))
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel("million messages a second")
        axes.legend()
        figure.savefig(path)

    return draw
