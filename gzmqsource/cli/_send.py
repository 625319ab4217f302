"""``send``: messages from a shell, with a report of those that no peer takes."""

from __future__ import annotations

import signal
import time
from typing import Any, cast

import click
import gevent
from gevent.queue import Full

from gzmqsource._base.deadline import Deadline
from gzmqsource._source.source import Source
from gzmqsource.cli._input import Input, input_options
from gzmqsource.cli._log import log
from gzmqsource.cli._numbers import Number, Seconds
from gzmqsource.cli._peers import Peers
from gzmqsource.cli._signals import SOON
from gzmqsource.cli._sockets import SENDING, socket_options, watched_source
from gzmqsource.cli._work import Work
from gzmqsource.errors import SendError

#: The types that send to the peers that are connected, even if there are none.
_NEVER_WAITS = ("pub", "xpub", "router")


@click.command()
@socket_options("push", SENDING)
@input_options
@click.option("--rate", type=Number(0, min_open=True), help="Messages per second.")
@click.option(
    "--timeout",
    type=Seconds(0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for peers to take all messages after the input has ended.",
)
def send(
    socket: dict[str, Any], kind: str, given: Input, rate: float | None, timeout: float
) -> None:
    """Send MESSAGES, files, or the lines of the standard input.

    It waits for peers, reports that after a second without one, and exits once they have all
    messages. If messages are left, it reports how many, and the exit status is 1. A PUB or XPUB
    never waits: messages that no subscriber wants yet are gone. SIGTERM and SIGINT end the input. A
    second signal, or a first Ctrl-C while there is no peer, ends the verb.

    \b
    Example:
      seq 1000 | gzmqsource send \\
        --connect tcp://127.0.0.1:5555
    """
    if kind == "router":
        # Or libzmq would silently drop a message to an unknown peer.
        socket["router_mandatory"] = 1
    work = Work(signal.SIGTERM, signal.SIGINT)
    delivery = Delivery()
    with watched_source(kind, socket, on_error=delivery.refuse) as (source, events, bound):
        endpoints = ((), ()) if kind in _NEVER_WAITS else (bound, socket["connect"])
        delivery.begin(source, Peers(*endpoints))
        following = gevent.spawn(delivery.peers.follow, events)
        work.run(delivery.send_all, given, rate)
        delivery.finish(work, timeout)
        following.kill()
    work.tell()
    delivery.tell(timeout)


class Delivery:
    """Sends messages, and counts those that no peer has taken."""

    def __init__(self) -> None:
        #: How many messages there were, and of how many it is certain that no peer has them.
        self.total = self.undelivered = 0
        #: Whether there may be more of these: libzmq does not say how many it holds.
        self.is_least = False
        #: Whether a signal came before the end of the time.
        self.is_interrupted = False
        #: Why libzmq has refused messages, a text for each.
        self.refused: list[str] = []
        self._held: list[bytes] | None = None

    def begin(self, source: Source, peers: Peers) -> None:
        """Use a source; all messages are sent to its peers."""
        self._source, self.peers = source, peers

    def refuse(self, error: BaseException, _message: object = None) -> None:
        """Note that libzmq has refused a message."""
        self.refused.append(str(error))

    def send_all(self, given: Input, rate: float | None) -> None:
        """Send messages; a kill holds the one that waits for room or for its time."""
        began = time.monotonic()
        for number, each in enumerate(given):
            try:
                self._held = given.frames_of(each)
            except ValueError as error:
                raise click.ClickException(f"message {number + 1}: {error}") from error
            self.total += 1
            if rate is not None:
                gevent.sleep(max(0.0, began + number / rate - time.monotonic()))
            self._send_held(None)

    def finish(self, work: Work, timeout: float) -> None:
        """Send until peers have all messages, the time is over, or a signal ends it."""
        delivering = gevent.spawn(self._deliver, Deadline(timeout))
        number, has_input = work.signal, work.signal is not None
        is_last = False
        while not delivering.ready():
            if number is not None:
                if not is_last:
                    delivering.join(SOON)  # a peer may have all, and its event is not read yet
                    if delivering.ready():
                        break
                without_peer = number == signal.SIGINT or not has_input
                if is_last or (without_peer and self.peers.are_missing):
                    self.is_interrupted = True
                    delivering.kill()
                    break
                log.info("stopping: the messages that were read are sent within %g s", timeout)
                is_last = True
            gevent.wait(cast(Any, [work.told, delivering]), count=1)
            if not delivering.ready():
                work.told.acquire()
                number = work.told.number
        self._count()

    def tell(self, timeout: float) -> None:
        """Raise an error of the command unless all was sent."""
        if self.undelivered:
            least = "at least " if self.is_least else ""
            missing = self.peers.missing
            reason = f"no peer at {', '.join(missing)}" if missing else "the peers had no room"
            how = "before the interrupt" if self.is_interrupted else f"within {timeout:g} s"
            raise click.ClickException(
                f"{least}{_of(self.undelivered, self.total)} not delivered: {reason} {how}"
            )
        if self.refused:
            refused = _of(len(self.refused), self.total)
            raise click.ClickException(f"{refused} refused: {self.refused[0]}")

    def _send_held(self, timeout: float | None) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        try:
            self._source.send(held, timeout=timeout)
        except SendError as error:
            self.refuse(error)
        except Full:
            self._held = held
        except gevent.GreenletExit:
            self._held = held
            raise

    def _deliver(self, deadline: Deadline) -> None:
        """Send the messages that are left, which are all of them if there was no peer so far."""
        self._send_held(deadline.left())
        if self.total == len(self.refused) or self.peers.came.wait(deadline.left()):
            self.undelivered = len(self._source.stop(deadline.left()))

    def _count(self) -> None:
        """Count the messages that were not delivered, also after an interrupt."""
        if not self.peers.came.is_set():
            self.undelivered = self.total - len(self.refused)
            return
        # They are queued here, or libzmq holds them and does not say how many.
        core = self._source._core
        self.is_least = self.is_interrupted or core.gave_up
        if self.is_interrupted:
            self.undelivered = self._source.stats().outbox_depth
        self.undelivered += self._held is not None
        if self.is_least:
            self.undelivered = max(1, self.undelivered)


def _of(count: int, total: int) -> str:
    return f"{count} of {total} message{'s were' if total > 1 else ' was'}"
