"""What connects libzmq's sockets: mailboxes, pipes, and the ways to choose between several."""

import itertools
import select
from collections import deque
from errno import EAGAIN
from typing import Any

#: A message that ends a pipe.
_DELIMITER = object()

#: What becomes of a frame: it is taken, or dropped without a word.
TAKEN, DROPPED = 0, -1

_descriptors = itertools.count(1 << 20)

#: What a loop can watch, by their descriptors.
mailboxes: dict[int, Any] = {}


class Mailbox:
    """Commands for one socket, and the descriptor that tells of them."""

    is_plain = False

    def __init__(self):
        self.commands: deque[tuple[Any, ...]] = deque()
        #: Whether the descriptor is readable.
        self.signalled = False
        self._is_awake = False
        self.descriptor = next(_descriptors)
        mailboxes[self.descriptor] = self

    def send(self, command, *arguments):
        self.commands.append((command, arguments))
        if not self._is_awake:
            self.signalled = True

    def receive(self):
        """Give the next command, or None; that it had been signalled is forgotten."""
        if not self._is_awake:
            if not self.signalled:
                return None
            self.signalled = False
            self._is_awake = True
        if not self.commands:
            self._is_awake = False
            return None
        return self.commands.popleft()


class Descriptor:
    """A descriptor that is no socket of libzmq: a pipe, say."""

    is_plain = True
    signalled = False

    def __init__(self):
        self.is_readable = self.is_writable = False
        self.descriptor = next(_descriptors)
        mailboxes[self.descriptor] = self

    def events(self):
        return self.is_readable | self.is_writable << 1

    def fileno(self):
        return self.descriptor


class Epoll:
    """An epoll set of descriptors, each of which is polled for reading, once for each call."""

    is_plain = False

    def __init__(self):
        #: The descriptors, and whether each may be reported.
        self._fds: dict[int, bool] = {}
        self.closed = False
        self.descriptor = next(_descriptors)
        mailboxes[self.descriptor] = self

    @property
    def signalled(self):
        return bool(self._ready())

    def register(self, fd, events):
        self._check(events)
        if fd in self._fds:
            raise FileExistsError(fd)
        self._fds[fd] = True

    def modify(self, fd, events):
        self._check(events)
        if fd not in self._fds:
            raise FileNotFoundError(fd)
        self._fds[fd] = True

    def unregister(self, fd):
        if fd not in self._fds:
            raise FileNotFoundError(fd)
        del self._fds[fd]

    def poll(self, timeout=-1, maxevents=-1):
        assert timeout == 0, "a call that would block the hub"
        ready = self._ready()[:maxevents]
        self._fds.update(dict.fromkeys(ready, False))
        return [(fd, 1) for fd in ready]

    def fileno(self):
        return self.descriptor

    def close(self):
        self._fds.clear()
        self.closed = True

    def _ready(self):
        return [fd for fd in sorted(self._fds) if self._fds[fd] and mailboxes[fd].signalled]

    def _check(self, events):
        assert not self.closed, "a closed epoll set is used"
        assert events == select.EPOLLIN | select.EPOLLONESHOT, "a ZMQ_FD is only ever readable"


class Stream:
    """The messages that go one way through a pipe."""

    __slots__ = ("begun", "is_reader_asleep", "messages", "written")

    def __init__(self):
        #: Frames that can be read.
        self.messages: deque[tuple[bytes, bool]] = deque()
        #: Frames of whole messages that are not flushed yet, and of the one that is begun.
        self.written = []
        self.begun = []
        self.is_reader_asleep = False

    def write(self, frame, more):
        self.begun.append((frame, more))
        if not more:
            self.written += self.begun
            self.begun = []

    def flush(self):
        """Let the reader see what is written; False if it has to be woken."""
        if not self.written:
            return True
        self.messages += self.written
        self.written = []
        was_asleep, self.is_reader_asleep = self.is_reader_asleep, False
        return not was_asleep

    def check_read(self):
        if not self.messages:
            self.is_reader_asleep = True
        return bool(self.messages)


class Pipe:
    """One end of a pipe."""

    def __init__(self, owner, inward, outward):
        self.owner = owner
        self.peer: Any = None
        self.inward = inward
        self.outward = outward
        self.state = "active"
        self.hwm = self.lwm = 0
        self.routing_id = None
        self._delay = True
        self._in_active = self._out_active = True
        self._read = self._written = self._peers_read = 0

    def set_hwms(self, inward, outward):
        self.lwm = (inward + 1) // 2
        self.hwm = outward

    def tell(self, command, *arguments):
        """Send the other end a command."""
        self.peer.owner.command(command, self.peer, *arguments)

    def has_room(self):
        return not self.hwm or self._written - self._peers_read < self.hwm

    def check_write(self):
        if not self._out_active or self.state != "active":
            return False
        if not self.has_room():
            self._out_active = False
            return False
        return True

    def write(self, frame, more):
        """Write a frame; *more* is None for a routing id."""
        if not self.check_write():
            return False
        self.outward.write(frame, more)
        self._written += more is False
        return True

    def flush(self):
        if self.state != "term_ack_sent" and self.outward is not None and not self.outward.flush():
            self.tell(Pipe.process_activate_read)

    def rollback(self):
        if self.outward is not None:
            self.outward.begun = []

    def check_read(self):
        if not self._in_active or self.state not in ("active", "waiting_for_delimiter"):
            return False
        if not self.inward.check_read():
            self._in_active = False
            return False
        if self.inward.messages[0][0] is _DELIMITER:
            self.inward.messages.popleft()
            self._process_delimiter()
            return False
        return True

    def read(self):
        """Give a frame and whether more follow, or None."""
        if not self.check_read():
            return None
        frame, more = self.inward.messages.popleft()
        self._read += more is False
        if self.lwm and self._read % self.lwm == 0:
            self.tell(Pipe.process_activate_write, self._read)
        return frame, more

    def terminate(self, delay):
        self._delay = delay
        if self.state in ("term_req_sent1", "term_req_sent2", "term_ack_sent"):
            return
        if self.state == "waiting_for_delimiter":
            if not delay:
                self._acknowledge("term_ack_sent")
        else:
            self.tell(Pipe.process_pipe_term)
            self.state = "term_req_sent1"
        self._out_active = False
        if self.outward is not None:
            self.rollback()
            self.outward.write(_DELIMITER, False)
            self.flush()

    def process_activate_read(self):
        if not self._in_active and self.state in ("active", "waiting_for_delimiter"):
            self._in_active = True
            self.owner.pattern.read_activated(self)

    def process_activate_write(self, read):
        self._peers_read = read
        if not self._out_active and self.state == "active":
            self._out_active = True
            self.owner.pattern.write_activated(self)

    def process_pipe_term(self):
        if self.state == "active" and self._delay:
            self.state = "waiting_for_delimiter"
        elif self.state == "term_req_sent1":
            self._acknowledge("term_req_sent2")
        else:
            self._acknowledge("term_ack_sent")

    def process_pipe_term_ack(self):
        self.owner.pipe_terminated(self)
        if self.state == "term_req_sent1":
            self._acknowledge(self.state)

    def _process_delimiter(self):
        if self.state == "active":
            self.state = "delimiter_received"
        else:
            self._acknowledge("term_ack_sent")

    def _acknowledge(self, state):
        self.rollback()
        self.outward = None
        self.state = state
        self.tell(Pipe.process_pipe_term_ack)

    # What is true of the pipe, whatever the socket has noticed of it.

    def readable_messages(self):
        """Count the whole messages that can still be read."""
        if self.state not in ("active", "waiting_for_delimiter"):
            return 0
        return sum(
            more is False and frame is not _DELIMITER for frame, more in self.inward.messages
        )

    def is_writable(self):
        """Tell whether a message can be written once the mailbox is read."""
        will_end = any(True for _ in self._pending(Pipe.process_pipe_term))
        return self.state == "active" and not will_end and self.will_have_room()

    def will_have_room(self):
        return self.room() > 0

    def room(self):
        """Give how many messages there will be room for."""
        reads = [read for (read,) in self._pending(Pipe.process_activate_write)]
        read = reads[-1] if reads else self._peers_read
        return self.hwm - (self._written - read) if self.hwm else 1 << 30

    def will_be_gone(self):
        return any(True for _ in self._pending(Pipe.process_pipe_term_ack))

    def _pending(self, wanted):
        """Give the arguments of the commands for this end that are in the mailbox."""
        for command, (pipe, *arguments) in self.owner.mailbox.commands:
            if pipe is self and command is wanted:
                yield arguments


class Active(list):
    """Pipes, of which the first few are active."""

    def __init__(self):
        super().__init__()
        self.active = 0
        self.current = 0

    def attach(self, pipe):
        self.append(pipe)
        self.activate(pipe)

    def activate(self, pipe):
        self._swap(self.index(pipe), self.active)
        self.active += 1

    def deactivate_current(self, wraps_to_zero):
        self.active -= 1
        if wraps_to_zero:
            if self.current < self.active:
                self._swap(self.current, self.active)
            else:
                self.current = 0
        else:
            self._swap(self.current, self.active)
            if self.current == self.active:
                self.current = 0

    def drop(self, pipe):
        index = self.index(pipe)
        if index < self.active:
            self.active -= 1
            self._swap(index, self.active)
            if self.current == self.active:
                self.current = 0
        # libzmq fills the gap with the last one.
        index = self.index(pipe)
        self[index] = self[-1]
        self.pop()

    def _swap(self, one, other):
        self[one], self[other] = self[other], self[one]


class FairQueue:
    """Receiving from several pipes in turn: libzmq's ``fq_t``."""

    def __init__(self):
        self.pipes = Active()
        self._more = False

    def receive(self):
        """Give a pipe, a frame and whether more follow, or None."""
        pipes = self.pipes
        while pipes.active:
            pipe = pipes[pipes.current]
            read = pipe.read()
            if read is not None:
                self._more = read[1]
                if not self._more:
                    pipes.current = (pipes.current + 1) % pipes.active
                return pipe, *read
            assert not self._more, "a message whose end cannot be read"
            pipes.deactivate_current(wraps_to_zero=False)
        return None

    def has_in(self):
        if self._more:
            return True
        pipes = self.pipes
        while pipes.active:
            if pipes[pipes.current].check_read():
                return True
            pipes.deactivate_current(wraps_to_zero=False)
        return False


class LoadBalancer:
    """Sending to several pipes in turn: libzmq's ``lb_t``."""

    def __init__(self):
        self.pipes = Active()
        self._more = self._dropping = False

    def send(self, frame, more):
        if self._dropping:
            self._more = self._dropping = more
            return DROPPED
        pipes = self.pipes
        while pipes.active:
            if pipes[pipes.current].write(frame, more):
                break
            if self._more:
                pipes[pipes.current].rollback()
                self._dropping = more
                self._more = False
                return EAGAIN
            pipes.deactivate_current(wraps_to_zero=True)
        if not pipes.active:
            return EAGAIN
        self._more = more
        if not more:
            pipes[pipes.current].flush()
            pipes.current += 1
            if pipes.current >= pipes.active:
                pipes.current = 0
        return TAKEN

    def has_out(self):
        if self._more:
            return True
        pipes = self.pipes
        while pipes.active:
            if pipes[pipes.current].check_write():
                return True
            pipes.deactivate_current(wraps_to_zero=False)
        return False

    def terminated(self, pipe):
        if self.pipes.index(pipe) == self.pipes.current and self._more:
            self._dropping = True
        self.pipes.drop(pipe)
