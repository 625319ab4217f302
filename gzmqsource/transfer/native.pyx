# cython: language_level=3, boundscheck=False, wraparound=False
"""Moving messages in one C loop over the libzmq that pyzmq has loaded.

The functions of libzmq are in ``libzmq.pxi``; a socket's handle comes from `zmq.Socket.underlying`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals

import errno

import zmq

from gzmqsource.transfer.pure import DROPPING_TYPES, PureTransfer
from gzmqsource.transfer.pure import LONGEST_STRIDE as _LONGEST_STRIDE

include "libzmq.pxi"

#: The size in bytes from which a frame is lent to libzmq and not copied.
cdef Py_ssize_t LARGE = 1 << 16

cdef Py_ssize_t LONGEST_STRIDE = _LONGEST_STRIDE

cdef int DONTWAIT = zmq.DONTWAIT
cdef int SNDMORE = zmq.SNDMORE
cdef int EVENTS = zmq.EVENTS
cdef int EAGAIN = zmq.EAGAIN
cdef int EFSM = zmq.EFSM
cdef int EINTR = errno.EINTR
cdef int ENOTSOCK = zmq.ENOTSOCK
cdef int ETERM = zmq.ETERM


cdef class NativeAllowance:
    """A `gzmqsource.transfer.pure.PureAllowance` in C."""

    cdef public Py_ssize_t left
    cdef double ends
    cdef double looked
    cdef double short_while
    cdef Py_ssize_t stride
    cdef Py_ssize_t until_look

    def refill(self, Py_ssize_t messages, double seconds):
        """See `PureAllowance.refill`."""
        self.looked = clock(CLOCK_MONOTONIC)
        self.ends = self.looked + seconds
        self.short_while = seconds / 16
        self.left = messages
        self.stride = self.until_look = 1

    def spend(self, Py_ssize_t messages=1):
        """See `PureAllowance.spend`."""
        return self.count(messages)

    cdef bint count(self, Py_ssize_t messages) noexcept:
        """Count messages that pass. A look at the clock costs 25 ns."""
        cdef double now
        if self.left <= 0:
            return False
        self.left -= messages
        self.until_look -= messages
        if self.until_look <= 0:
            now = clock(CLOCK_MONOTONIC)
            if now >= self.ends:
                self.left = 0
            # Long strides for quick messages; a slow one is the last before the next look.
            if now - self.looked < self.short_while:
                self.stride = min(2 * self.stride, LONGEST_STRIDE)
            else:
                self.stride = 1
            self.until_look = self.stride
            self.looked = now
        return True


cdef class NativeTransfer:
    """A `gzmqsource.transfer.interface.Transfer` in C; frames other than bytes go through pyzmq."""

    cdef readonly Py_ssize_t received
    cdef readonly Py_ssize_t sent
    cdef object socket
    cdef object pure
    cdef void *handle
    cdef bint dropping

    def __init__(self, socket):
        self.socket = socket
        self.pure = PureTransfer(socket)
        self.handle = <void *><size_t>socket.underlying
        self.dropping = socket.get(zmq.TYPE) in DROPPING_TYPES

    cdef int check_open(self) except -1:
        # A closed socket's handle is freed memory. pyzmq sets the flag, and so does the owner
        # if another Python object closes the socket.
        if self.socket._closed:
            raise zmq.ZMQError(ENOTSOCK)
        return 0

    def events(self):
        """See `Transfer.events`."""
        return self.option(EVENTS)

    cpdef int option(self, int option) except? -1:
        """See `Transfer.option`."""
        cdef int value = 0
        cdef size_t size = sizeof(int)
        self.check_open()
        while zmq_getsockopt(self.handle, option, &value, &size) != 0:
            raise_unless_interrupted()
        return value

    cpdef bint receive(self, list into, Py_ssize_t max_messages, Py_ssize_t max_bytes) except -1:
        """See `Transfer.receive`."""
        cdef zmq_msg_t part
        cdef Py_ssize_t size = 0
        cdef int code
        self.check_open()
        msg_init(&part)
        try:
            while max_messages > 0 and size < max_bytes:
                if msg_recv(&part, self.handle, DONTWAIT) < 0:
                    code = zmq_errno()
                    if code == EAGAIN or code == EFSM:
                        return True
                    raise_unless_interrupted()
                    continue
                try:
                    first = take(&part, &size)
                    if not msg_more(&part):
                        into.append([first])
                    else:
                        into.append(self.rest(first, &part, &size))
                except BaseException:
                    # Out of memory, or a signal handler's exception: this message is lost, but
                    # the next receive must not begin in the middle of it.
                    while msg_more(&part) and msg_recv(&part, self.handle, DONTWAIT) >= 0:
                        pass
                    raise
                self.received += 1
                max_messages -= 1
        finally:
            msg_close(&part)
        return False

    cdef list rest(self, first, zmq_msg_t *part, Py_ssize_t *size):
        """Receive the frames after the first; the list of a short message is never resized."""
        cdef list message
        second = self.next(part, size)
        if not msg_more(part):
            return [first, second]
        message = [first, second, self.next(part, size)]
        while msg_more(part):
            message.append(self.next(part, size))
        return message

    cdef bytes next(self, zmq_msg_t *part, Py_ssize_t *size):
        while msg_recv(part, self.handle, DONTWAIT) < 0:
            raise_unless_interrupted()
        return take(part, size)

    def send(self, messages, Py_ssize_t max_messages, Py_ssize_t max_bytes):
        """See `Transfer.send`."""
        cdef Py_ssize_t left = min(max_messages, len(messages))
        cdef object take_out = messages.popleft
        while left > 0 and max_bytes > 0:
            message = messages[0]
            if not self.send_one(message):
                return False
            take_out()
            left -= 1
            max_bytes -= size_of(message)
        return True

    cpdef bint send_one(self, message) except -1:
        """See `Transfer.send_one`."""
        cdef Py_ssize_t sent, last
        self.check_open()
        if type(message) is bytes:
            if not self.send_frame(message, DONTWAIT):
                return False
        else:
            last = len(<list>message) - 1
            while True:
                sent = self.send_frames(<list>message, last)
                if sent > last:
                    break
                if sent == 0:
                    return False
                # The pipe died inside the message.
                if self.dropping and sent < last:
                    self.send_frame(b"", DONTWAIT)  # the end of what libzmq drops
        self.sent += 1
        return True

    cdef Py_ssize_t send_frames(self, list frames, Py_ssize_t last) except -1:
        """Send frames until libzmq answers ``EAGAIN``; return how many it took."""
        cdef Py_ssize_t index
        for index in range(last + 1):
            if not self.send_frame(frames[index], DONTWAIT | SNDMORE if index < last else DONTWAIT):
                return index
        return last + 1

    cdef int send_frame(self, frame, int flags) except -1:
        if type(frame) is not bytes:
            return self.pure.send_frame(frame, flags)
        if PyBytes_GET_SIZE(frame) >= LARGE:
            return self.send_large(frame, flags)
        while zmq_send(
            self.handle, PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), flags
        ) < 0:
            if zmq_errno() == EAGAIN:
                return 0
            raise_unless_interrupted()
        return 1

    cdef int send_large(self, bytes frame, int flags) except -1:
        """Send a frame that libzmq reads from where it is: 1 MB over tcp 1.8 times as fast."""
        cdef zmq_msg_t part
        cdef lent_frame *lent = lend(frame)
        if lent == NULL:
            raise MemoryError
        if msg_init_data(
            &part, PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), give_back, lent
        ) < 0:
            give_back(NULL, lent)
            raise MemoryError
        try:
            while msg_send(&part, self.handle, flags) < 0:
                if zmq_errno() == EAGAIN:
                    return 0
                raise_unless_interrupted()
            return 1
        finally:
            msg_close(&part)  # a no-op after a send
            let_go_of_returned(NULL)


cdef class NativeShortcuts:
    """A `gzmqsource.transfer.interface.Shortcuts` in C."""

    cdef public bint may_pull
    cdef readonly object handling
    cdef NativeTransfer transfer
    cdef NativeAllowance allowance
    cdef object backlog
    cdef dict lanes
    cdef object arrivals
    cdef Py_ssize_t least_frames
    cdef object readers
    cdef object writers
    cdef list pollers
    cdef object recheck
    cdef bint is_open
    cdef unsigned long thread
    # The lane, once it was needed, and its attributes.
    cdef object lane
    cdef object queue
    cdef object putters
    cdef Py_ssize_t maxsize
    cdef double resolution
    cdef double noted

    def __init__(self, NativeTransfer transfer, NativeAllowance allowance, backlog, waiting):
        self.transfer = transfer
        self.allowance = allowance
        self.backlog = backlog
        self.lanes = backlog.lanes
        self.arrivals = backlog.arrivals
        self.least_frames = backlog.least_frames
        self.readers = waiting.readers
        self.writers = waiting.writers
        self.pollers = waiting.pollers
        self.recheck = waiting.recheck
        self.thread = PyThread_get_thread_ident()
        self.is_open = True

    def close(self):
        """See `Shortcuts.close`."""
        self.is_open = self.may_pull = False
        self.recheck = self.backlog = None

    cdef bint may_pass(self):
        """Return whether this thread may use the socket, and something of the allowance is left."""
        return (
            self.is_open
            and self.allowance.left > 0
            and self.thread == PyThread_get_thread_ident()
        )

    cdef bint may_receive(self) except -1:
        return self.may_pull and self.may_pass() and not len(self.readers)

    def dispatch(self, list messages, handle):
        """See `Shortcuts.dispatch`."""
        while messages and self.allowance.count(1):
            self.handling = messages.pop()
            handle(self.handling)
        self.handling = None

    def send(self, message):
        """See `Shortcuts.send`."""
        if not self.may_pass() or len(self.arrivals):
            return False
        if type(message) is list:
            if len(<list>message) < self.least_frames:
                return False
            for frame in <list>message:
                if type(frame) is not bytes:
                    return False
        elif type(message) is not bytes or self.least_frames > 1:
            return False
        if len(self.lanes):
            return self.put(message)
        try:
            if not self.transfer.send_one(message):
                return False
        except zmq.ZMQError:
            return False  # the slow path meets it again, and handles it
        finally:
            self.recheck_if_awaited()
        self.allowance.count(1)
        return True

    cdef bint put(self, message) except -1:
        """Queue a message behind others; their flusher sends it, too."""
        cdef double now
        if self.lane is None:
            self.lane = self.backlog.lane
            if self.lane is None:
                return False
            self.queue = self.lane.queue
            self.putters = self.lane.waiting
            self.maxsize = self.lane.maxsize
            self.resolution = self.lane.resolution
        if len(self.queue) >= self.maxsize or len(self.putters):
            return False
        now = clock(COARSE_CLOCK)  # 5 ns
        if now - self.noted > self.resolution:
            self.noted = now
            self.lane.note_time()
        self.queue.append(message if type(message) is bytes else list(message))
        self.allowance.count(1)
        return True

    def receive(self):
        """See `Shortcuts.receive`."""
        cdef list messages = []
        if not self.may_receive():
            return None
        try:
            self.transfer.receive(messages, 1, 1)
        except zmq.ZMQError:
            return None  # the slow path meets it again
        finally:
            self.recheck_if_awaited()
        if not messages:
            return False
        self.allowance.count(1)
        return messages[0]

    def receive_frame(self):
        """See `Shortcuts.receive_frame`."""
        cdef zmq_msg_t part
        cdef Py_ssize_t size = 0
        if not self.may_receive():
            return None
        self.transfer.check_open()
        msg_init(&part)
        try:
            if msg_recv(&part, self.transfer.handle, DONTWAIT) < 0:
                return False if zmq_errno() == EAGAIN else None
            frame = take(&part, &size)
        finally:
            msg_close(&part)
            self.recheck_if_awaited()
        self.allowance.count(1)
        return frame

    cdef int recheck_if_awaited(self) except -1:
        if len(self.readers) or len(self.writers) or len(self.pollers):
            self.recheck()
        return 0


cdef Py_ssize_t size_of(message) except -1:
    """Return the bytes of a checked message."""
    cdef Py_ssize_t size = 0
    if type(message) is bytes:
        return PyBytes_GET_SIZE(message)
    for frame in <list>message:
        size += PyBytes_GET_SIZE(frame) if type(frame) is bytes else len(frame)
    return size


cdef double clock(int which) noexcept nogil:
    """Return the time in seconds."""
    cdef timespec now
    clock_gettime(which, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef bytes take(zmq_msg_t *part, Py_ssize_t *size):
    """Copy a frame out, and add its length to *size*."""
    cdef Py_ssize_t length = <Py_ssize_t>msg_size(part)
    size[0] += length
    return PyBytes_FromStringAndSize(msg_data(part), length)


cdef int raise_unless_interrupted() except -1:
    """Raise libzmq's error; after a signal, run its handlers and return, to repeat the call."""
    cdef int code = zmq_errno()
    if code == ETERM:
        raise zmq.ContextTerminated()
    if code != EINTR:
        raise zmq.ZMQError(code)
    PyErr_CheckSignals()
    return 0
