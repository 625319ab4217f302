"""`Lane`: a gevent queue of messages, with putters that no new message overtakes."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING

from gevent.queue import Queue

from gzmqsource._source.aside import Aside
from gzmqsource._source.bounds import Bounds
from gzmqsource._source.putter import ForeignPutter, Putter
from gzmqsource.transfer import Sizes, weight_of
from gzmqsource.transfer.message import Message

if TYPE_CHECKING:
    MessageQueue = Queue[Message]
else:
    MessageQueue = Queue  # cannot be subscripted before gevent 25.4


class Lane(MessageQueue):
    """The messages for one destination, oldest first, and the putters behind them.

    The deque (``queue``), ``maxsize``, ``qsize`` and ``get_nowait`` are gevent's. The putters are
    not: with gevent's putter waiting on a full queue, ``get_nowait()`` and then ``put_nowait()``
    admit the new message first, and a native thread cannot be a putter. So a message that finds no
    room waits here, in `waiting`, and `admit` lets it follow.

    Parameters
    ----------
    bounds : Bounds
        The limits of this lane and of the others.
    """

    __slots__ = (
        "_bounds",
        "_is_moving",
        "_left",
        "_marks",
        "_searched",
        "aside",
        "sizes",
        "waiting",
        "wanted",
    )

    #: Seconds between two time stamps, so that not every message needs one.
    resolution = 0.001

    #: The most greenlets of other hubs that are invited at a time.
    invitations = 64

    #: How many messages stay in the deque when the others are set aside, because withdrawals have
    #: searched too many.
    near = 64

    #: How often the whole deque is searched before that: setting aside costs about as much.
    searches = 32

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds.messages)
        self._bounds = bounds
        #: The sizes of the messages in the deque.
        self.sizes = Sizes(bounds.lane_bytes, bounds.all)
        #: The messages after the deque, once a message was withdrawn from a long one.
        self.aside: Aside | None = None
        #: The putters, in FIFO order; each can leave without a search.
        self.waiting: OrderedDict[Putter | ForeignPutter, None] = OrderedDict()
        #: The bytes that it would hold with the message of its first putter, if that waits because
        #: too few bytes are free for all lanes; otherwise None.
        self.wanted: int | None = None
        #: Pairs: how many messages were queued before one, and when that one was queued.
        self._marks: deque[tuple[int, float]] = deque()
        self._left = 0
        # How many messages the searches have passed.
        self._searched = 0
        # Whether messages are being removed, or moved between the deque and those set aside.
        self._is_moving = False

    @property
    def depth(self) -> int:
        """How many messages it holds."""
        aside = self.aside  # read once, because another thread may read the depth
        return len(self.queue) + (0 if aside is None else len(aside))

    @property
    def bytes(self) -> int:
        """The bytes that it holds."""
        aside = self.aside
        return self.sizes.total + (0 if aside is None else aside.bytes)

    @property
    def left(self) -> int:
        """How many messages have left it."""
        return self._left

    def messages(self) -> list[Message]:
        """Return all that it holds, oldest first."""
        return [*self.queue, *(self.aside or ())]

    def fits(self, size: int) -> bool:
        """Return whether there is room for a message of that size."""
        if self.aside is None:
            return self._bounds.admit(len(self.queue), self.sizes.total, size)
        return self._bounds.admit(self.depth, self.bytes, size)

    def append(self, message: Message, size: int) -> None:
        """Queue a message behind all others, with the bytes that it counts."""
        self.note_time()
        if self.aside is None:
            # In this order: without the message, `settle` counts again.
            self.sizes.append(size)
            self.queue.append(message)
        else:
            self.aside.append(message, size)

    def take_back(self, depth: int) -> None:
        """Remove the newest message if there are more than *depth*, as before its `append`.

        An exception has come into the same step, before or after the message was queued.
        """
        if self.depth > depth:
            if self.aside is None:
                self.queue.pop()
            else:
                self.aside.pop()
        self.settle(0)

    def admit(self) -> Putter | ForeignPutter | None:
        """Let the putters follow, in order, while there is room.

        Returns
        -------
        Putter, ForeignPutter or None
            The putter that comes next and has to act: it has to be woken, or to accept. None if
            there is no room, or no putter.
        """
        self.wanted = None
        while self.waiting:
            first = next(iter(self.waiting))
            if not self.fits(first.size):
                with_first = self.bytes + first.size
                if self.depth < self._bounds.messages and with_first <= self._bounds.lane_bytes:
                    self.wanted = with_first
                return None
            if isinstance(first, Putter):
                if not first.withdrawn:
                    return first
                del self.waiting[first]
            elif first.take():
                self._take_in(first)
            elif first.withdrawn:
                del self.waiting[first]
            else:
                self._invite()
                return first
        return None

    def settle(self, left: int) -> None:
        """Note that the *left* oldest messages have left the deque."""
        self._left += left
        self._forget_marks()
        if len(self.sizes) == len(self.queue) + left:
            self.sizes.settle(left)
        else:  # an exception came between two steps
            self.sizes.recount([weight_of(message) for message in self.queue])
        if self.aside is not None:
            was_moving = self._is_moving
            try:
                self._is_moving = True
                self._refill(self.aside)
            finally:
                self._is_moving = was_moving

    def withdraw(self, message: Message) -> bool:
        """Remove the oldest message that is equal to *message*; return False if there is none.

        A signal handler can withdraw none in the middle of this, or of `settle`.
        """
        if self._is_moving:
            return False
        try:
            self._is_moving = True
            return self._remove(message)
        finally:
            self._is_moving = False

    def _remove(self, message: Message) -> bool:
        if len(self.queue) > self.near and self._searched > self.searches * len(self.queue):
            self._set_aside()
        try:
            index = self.queue.index(message)
        except ValueError:
            self._searched += len(self.queue)
            if self.aside is None or not self.aside.remove(message):
                return False
            self._refill(self.aside)
            return True
        self._searched += index
        del self.queue[index]
        self.sizes.remove(index)
        self._left += not index
        self.settle(0)
        return True

    def take_all(self) -> list[Message]:
        """Remove and return all messages."""
        messages = self.messages()
        while self.queue:
            left = len(self.queue)
            self.queue.clear()
            self.settle(left)
        return messages

    def note_time(self) -> None:
        """Note that a message is about to be queued; once per `resolution` is enough."""
        now = time.monotonic()
        marks = self._marks
        if not (self.queue and marks) or now - marks[-1][1] >= self.resolution:
            # A message withdrawn from the middle has not left, so a number may come again. At least
            # one mark stays, because another thread may read the age.
            number = self._left + self.depth
            while len(marks) > 1 and marks[-1][0] >= number:
                marks.pop()
            if marks and marks[-1][0] >= number:
                marks[-1] = number, now
            else:
                marks.append((number, now))
            self._forget_marks()

    def age(self) -> float:
        """Return the age in seconds of the oldest message, to the `resolution`."""
        return time.monotonic() - self._marks[0][1] if self.queue else 0.0

    def _put(self, item: Message) -> None:
        self.append(item, weight_of(item))

    def _get(self) -> Message:
        message: Message = self.queue.popleft()
        self.settle(1)
        return message

    def _take_in(self, putter: ForeignPutter) -> None:
        """Queue the message of a putter of another thread; if this raises, it is still to be done.

        The putter leaves when its message is in, or another thread would find room for one more.
        """
        depth = self.depth
        try:
            self.append(putter.message, putter.size)
            del self.waiting[putter]
        except BaseException:
            self.take_back(depth)
            raise

    def _forget_marks(self) -> None:
        try:
            while len(self._marks) > 1 and self._marks[1][0] <= self._left:
                self._marks.popleft()
        except IndexError:  # a signal handler has forgotten them meanwhile
            pass

    def _set_aside(self) -> None:
        """Set aside all but the first messages, so that each can leave without a search."""
        self.sizes.most = -1
        self._searched = 0
        self.aside = Aside(self._bounds)
        for message in islice(self.queue, self.near, None):
            self.aside.append(message, weight_of(message))
        while len(self.queue) > self.near:
            self.queue.pop()
            self.sizes.remove(len(self.queue))

    def _refill(self, aside: Aside) -> None:
        """Move messages that were set aside to the deque; the last one ends *aside*."""
        while aside and len(self.queue) < self.near:
            message, size = aside.first()
            self.queue.append(message)
            self.sizes.append(size)
            # Only now, or another thread would find room for one more.
            aside.remove(message)
        if not aside:
            self.aside = None
            if aside:  # a signal handler has sent meanwhile
                self.aside = aside
                return
            self.sizes.most = self._bounds.lane_bytes

    def _invite(self) -> None:
        """Invite the greenlets of other hubs for which there is room."""
        messages, size = self.depth, self.bytes
        for putter in islice(self.waiting, self.invitations):
            if not self._bounds.admit(messages, size, putter.size):
                break
            messages += 1
            size += putter.size
            if isinstance(putter, ForeignPutter):
                putter.invite()
