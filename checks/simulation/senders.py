"""The greenlets that send on a green socket: whole messages, frame by frame, and what befalls them.

A message whose ``send`` returned arrives, whole and once; one whose ``send`` raised does not,
unless it was sent again.
"""

import contextlib
import itertools
from typing import Any

import gevent
import zmq
from greenlet import getcurrent

from gzmqsource import green
from gzmqsource._base.event import Event
from gzmqsource.green import _polling
from simulation.peers import ONE_AT_A_TIME, PEERS, PeeredWorld
from simulation.world import action, check, given_up_after, loop

#: Seconds after which a ``gevent.Timeout`` strikes a sender; None for never.
LIMITS = (None, None, None, 0.0, 0.002, 0.02, 1.0)

#: What a sender does after its message was refused.
AGAIN = ("no", "no", "whole", "other")

#: The types whose ``POLLOUT`` says nothing of the message at hand.
INEXACT = ("ROUTER", "PUB", "XPUB")


def begin_turns():
    """Forget what the polls of earlier worlds have used of the hub's turn: each world is alone."""
    _polling._here.budget = None


class Overridden(green.Socket[bytes]):
    """A socket as many programs have it, whose ``send`` and ``recv`` do more than pyzmq's."""

    def send(self, data: Any, flags: int = 0, *args: Any, **kwargs: Any) -> Any:
        return super().send(data, flags, *args, **kwargs)

    def recv(self, flags: int = 0, *args: Any, **kwargs: Any) -> Any:
        return super().recv(flags, *args, **kwargs)


class SendingWorld(PeeredWorld):
    """A world with a green socket on which greenlets send."""

    socket: green.Socket[bytes]

    def __init__(self, kind, marks, mandatory, timeout, delay):
        super().__init__(kind, marks, mandatory, delay)
        begin_turns()
        #: The seconds of RCVTIMEO and SNDTIMEO, or None.
        self.timeout = timeout / 1000 if timeout >= 0 else None
        #: The messages that are just being sent by calls that may wait, by their greenlets.
        self.sending = {}
        #: For each of them in which place it began to be sent; NOBLOCK may overtake.
        self.places = {}
        self._places = itertools.count()
        self._gate = Event()

    # Steps of a schedule.

    @action(weight=5, frames=range(1, 4), peer=PEERS, limit=LIMITS, again=AGAIN, copy=(True, False))
    def send(self, frames, peer, limit=None, again="no", copy=True):
        """Send a message by one call."""
        self.spawn(self._send_whole, frames, peer, 0, limit, again, copy)

    @action(weight=3, frames=range(1, 4), peer=PEERS)
    def send_nowait(self, frames, peer):
        self._send_whole(frames, peer, zmq.NOBLOCK, None, "no", True)

    @action(
        weight=6,
        frames=range(1, 4),
        peer=PEERS,
        flags=(0, 0, int(zmq.NOBLOCK)),
        pause=("none", "short", "long"),
        limit=LIMITS,
        again=(*AGAIN, "frame"),
        joined=(False, False, True),
    )
    def send_frames(self, frames, peer, flags, pause, limit, again, joined):
        """Send a message frame by frame; *joined* sends all but the first by one call."""
        arguments = frames, peer, flags, pause, limit, again, joined
        self.spawn(self._send_frames, *arguments)

    @action(weight=2, frames=range(2, 4), peer=PEERS, flags=(0, int(zmq.NOBLOCK)))
    def send_in_parts(self, frames, peer, flags=0):
        """Send a message frame by frame, without waiting, and from the greenlet that drives."""
        self._send_frames(frames, peer, flags, "none", None, "no", False, zmq.NOBLOCK)

    @action(weight=1, frames=range(2, 4), peer=PEERS, joined=(True, False))
    def send_bad(self, frames, peer, joined):
        """Send what is no frame within a message, and then the message."""
        self.spawn(self._send_bad, frames, peer, joined)

    @action(weight=2, frames=range(1, 3), peer=PEERS, ends=(True, False))
    def leave_unfinished(self, frames, peer, ends):
        """Begin a message and end, or wait until the kill."""
        self.spawn(self._leave_unfinished, frames, peer, ends)

    @action()
    def go_on(self):
        """Let those go on that pause between two frames."""
        self._gate.set()
        self._gate.clear()

    # What must be true.

    def check_rest(self):
        super().check_rest()
        for greenlet, message in self.sending.items():
            could_go = self.is_open and self.libzmq.pattern.would_take(message)
            # A REQ waits, in pyzmq too, as one that has asked; only its state tells.
            check(not could_go, f"{message} waits in {greenlet}, and could be sent")

    def check_order(self):
        """Check that nobody who waited was overtaken by one who came later."""
        lanes: dict[Any, list[int]] = {}
        for message in self.libzmq.taken:
            number = self.number_in(message)
            if number in self.places:
                lane = message[0] if self.kind == "ROUTER" else None
                lanes.setdefault(lane, []).append(number)
        for numbers in lanes.values():
            places = [self.places[number] for number in numbers]
            check(places == sorted(places), f"sent in the order {numbers}, begun at {places}")

    # Greenlets.

    def _send_whole(self, frames, peer, flags, limit, again, copy):
        number, message = self.new_message(frames, peer)
        send = self._send_multipart
        if not self._attempt(number, message, flags, limit, send, message, flags, copy):
            return
        if again == "other":
            number, message = self.new_message(frames, peer)
        if again != "no":
            self._attempt(number, message, flags, None, send, message, flags, copy)

    def _send_frames(self, frames, peer, flags, pause, limit, again, joined, last_flags=None):
        number, message = self.new_message(frames, peer)
        echo = self._name_last_frame(message) if again == "frame" else None
        index = 0
        last_flags = flags if last_flags is None else last_flags
        for seconds in limit, None:
            with given_up_after(seconds):
                try:
                    # What a Timeout interrupts between two frames goes on where it was.
                    while index < len(message) - 1 and not (joined and index):
                        self.refused.add(number)
                        self._send_frame(message[index], flags | zmq.SNDMORE)
                        index += 1
                        self._pause(pause)
                except zmq.ZMQError as error:
                    if error.errno != zmq.EAGAIN:
                        return
                    check(flags, "EAGAIN from a call that waits")
                    continue
            if index < len(message) - 1 and not (joined and index):
                continue
            call: tuple[Any, ...] = self._send_frame, message[index], last_flags
            if joined and index:
                call = self._send_multipart, message[index:], last_flags, True
            outcome = self._attempt(number, message, last_flags, limit, *call)
            if not outcome:
                if echo is not None:
                    self._attempt(echo, self.made[echo], 0, None, self._send_frame, message[-1], 0)
                return
            if again == "no":
                return
            if again == "other":
                number, message = self.new_message(frames, peer)
            if again != "frame" or outcome != zmq.EAGAIN:
                index = 0

    def _name_last_frame(self, message):
        """Let the last frame be another message, too; give the number of that, or None."""
        if len(message) == 1 or self.kind == "ROUTER":
            return None
        number = next(self.numbers)
        message[-1] = f"{number} 0 1".encode()
        self.made[number] = message[-1:]
        return number

    def _send_bad(self, frames, peer, joined):
        number, message = self.new_message(frames, peer)
        self.refused.add(number)
        index = int(joined)
        for frame in message[:index]:
            with contextlib.suppress(zmq.ZMQError):
                self._send_frame(frame, zmq.SNDMORE)
        try:
            self._send_multipart([message[index], None], 0, True)
        except (TypeError, zmq.ZMQError) as error:
            check(isinstance(error, TypeError) or not self.is_open, f"{error!r} for a bad frame")
        else:
            check(False, "a bad frame was sent")
        self._attempt(number, message, 0, None, self._send_multipart, message[index:], 0, True)

    def _leave_unfinished(self, frames, peer, ends):
        number, message = self.new_message(frames + 1, peer)
        self.refused.add(number)
        try:
            for frame in message[:frames]:
                self._send_frame(frame, zmq.SNDMORE)
        except zmq.ZMQError as error:
            check(error.errno != zmq.EAGAIN, "EAGAIN from a call that waits")
        if not ends:
            Event().wait()

    def _pause(self, pause):
        if pause == "short":
            gevent.sleep(0)
        elif pause == "long":
            self._gate.wait()

    # Calls.

    def call(self, function, *arguments):
        """Make a call that may fail only as the state of the socket allows."""
        try:
            return function(*arguments)
        except zmq.ZMQError as error:
            allowed: dict[int | None, Any] = {
                zmq.EAGAIN: True,
                zmq.ENOTSOCK: self.socket._closed,
                zmq.ETERM: self.is_ended,
                zmq.EFSM: self.kind in ONE_AT_A_TIME,
                zmq.EHOSTUNREACH: self.kind == "ROUTER",
                zmq.ENOTSUP: self.kind in ("PUSH", "PULL", "PUB") or self.socket._closed,
            }
            check(allowed.get(error.errno, False), f"{error!r} from {function.__name__}")
            raise

    def note_turn(self):
        """Note that a REQ or REP has changed its state, which decides what it is ready for."""
        if self.kind in ONE_AT_A_TIME:
            self.disturb()

    def _send_frame(self, frame, flags):
        """Send a frame from a buffer that is used again at once."""
        buffer = bytearray(frame)
        self.call(self.socket.send, buffer, flags)
        buffer[:] = b"?" * len(buffer)

    def _send_multipart(self, message, flags, copy):
        self.call(self.socket.send_multipart, message, flags, copy)

    def _attempt(self, number, message, flags, limit, send, *arguments):
        """Make the call that ends a message; give 0 if it was sent, else why not."""
        self.refused.add(number)
        self.places.pop(number, None)
        if not flags:
            self.places[number] = next(self._places)
            self.sending[getcurrent()] = message
        began = loop.time
        try:
            with gevent.Timeout(limit):
                send(*arguments)
        except gevent.Timeout:
            return zmq.EAGAIN
        except zmq.Again:
            self._check_refusal(message, flags, began)
            return zmq.EAGAIN
        except zmq.ZMQError as error:
            return error.errno
        finally:
            self.sending.pop(getcurrent(), None)
        self.refused.discard(number)
        self.accepted.add(number)
        self.note_turn()
        return 0

    def _check_refusal(self, message, flags, began):
        """Check that what was refused could not be sent."""
        if flags:
            is_in_turn = self.kind not in ONE_AT_A_TIME or not self.libzmq.pattern.may_receive()
            check(is_in_turn or not self.is_open, "EAGAIN from a send that is out of turn")
            return
        check(self.timeout is not None, "EAGAIN from a call that waits")
        deadline = began + self.timeout
        check(loop.time >= deadline, f"EAGAIN at {loop.time}, before {deadline}")
        lane = message[: self.kind == "ROUTER"]
        waiting = [each for each in self.sending.values() if each[: len(lane)] == lane]
        # Where a failed send has to be confirmed, that takes its time.
        margin = self.confirmed if self.kind in INEXACT else 0.0
        if self.calm_since + margin < deadline and self.is_open:
            room = self.libzmq.pattern.room_for(message)
            check(room < len(waiting), f"EAGAIN for {message}, and there was room for {room}")
