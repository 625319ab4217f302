# cython: language_level=3, boundscheck=False, wraparound=False
"""Moving messages in one C loop over the libzmq that pyzmq has loaded.

The functions of libzmq are in ``libzmq.pxi``, the frames that they move in ``parts.pxi``, the
lending of frames in ``lending.pxi``, the count of messages in ``allowance.pxi``, and the shortcuts
in ``shortcuts.pxi``. A socket's handle comes from `zmq.Socket.underlying`.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Size
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    int PyGC_Disable()
    int PyGC_Enable()

cdef extern from *:
    const char *GZMQSOURCE_VERSION  # setup.py defines it

import errno

import zmq
from greenlet import getcurrent
from zmq.backend import Socket as BackendSocket

from gzmqsource.transfer.message import FRAME_OVERHEAD
from gzmqsource.transfer.message import UNLIMITED as _UNLIMITED
from gzmqsource.transfer.pure import DROPPING_TYPES
from gzmqsource.transfer.pure import MOST_DISCARDED
from gzmqsource.transfer.pure import AFTER_WAIT as _AFTER_WAIT
from gzmqsource.transfer.pure import LONGEST_STRIDE as _LONGEST_STRIDE

#: The version of gzmqsource that this was built for.
version = GZMQSOURCE_VERSION.decode()

include "libzmq.pxi"
include "lending.pxi"
include "parts.pxi"

#: The size in bytes from which a frame is lent to libzmq and not copied.
cdef Py_ssize_t LARGE = 1 << 16

cdef enum:
    #: How many parts of a message are prepared without allocating memory for them.
    FEW = 8
    #: The bytes that fit into a ``zmq_msg_t`` itself, so that no memory is needed for them.
    SHORT = 33
    #: In place of the number of parts that libzmq took: a signal handler has run.
    INTERRUPTED = -2

cdef Py_ssize_t LONGEST_STRIDE = _LONGEST_STRIDE
cdef Py_ssize_t AFTER_WAIT = _AFTER_WAIT
cdef Py_ssize_t OVERHEAD = FRAME_OVERHEAD
cdef Py_ssize_t UNLIMITED = _UNLIMITED
cdef Py_ssize_t DISCARDED = MOST_DISCARDED

cdef int DONTWAIT = zmq.DONTWAIT
cdef int SNDMORE = zmq.SNDMORE
cdef int EVENTS = zmq.EVENTS
cdef int POLLIN = zmq.POLLIN
cdef int EAGAIN = zmq.EAGAIN
cdef int EFSM = zmq.EFSM
cdef int EINTR = errno.EINTR
cdef int ENOTSOCK = zmq.ENOTSOCK
cdef int ETERM = zmq.ETERM


include "allowance.pxi"


cdef class NativeTransfer:
    """A `gzmqsource.transfer.interface.Transfer` in C."""

    cdef readonly Py_ssize_t received
    cdef readonly Py_ssize_t sent
    cdef readonly Py_ssize_t oversized
    cdef readonly bint discarding
    cdef readonly bint must_send_first
    cdef public unsigned long long calls
    cdef public unsigned long long last_receive
    cdef public Py_ssize_t max_frames
    cdef public Py_ssize_t max_message_bytes
    cdef object socket
    cdef void *handle
    cdef bint dropping
    # The frame received last, and whether it is still to be taken.
    cdef zmq_msg_t part
    cdef bint is_full
    # The frames of a message whose end is still to be taken, and their bytes.
    cdef list begun
    cdef Py_ssize_t begun_bytes
    # An empty list and an empty `zmq.Frame`, made while nothing depends on them.
    cdef list spare
    cdef object spare_frame
    # The messages that were received ahead of the call that returns them, or None.
    cdef list ahead

    def __cinit__(self):
        msg_init(&self.part)

    def __dealloc__(self):
        msg_close(&self.part)

    def __init__(self, socket):
        if not isinstance(socket, BackendSocket):
            raise TypeError(f"{socket!r} is not a zmq.Socket")
        self.socket = socket
        self.handle = <void *><size_t>socket.underlying
        self.dropping = socket.get(zmq.TYPE) in DROPPING_TYPES
        self.max_frames = self.max_message_bytes = UNLIMITED

    cdef int check_open(self) except -1:
        # A closed socket's handle is freed memory. pyzmq sets the flag, and so does the owner
        # if another Python object closes the socket.
        if has_flag(self.socket, closed_flag):
            raise zmq.ZMQError(ENOTSOCK)
        return 0

    cdef int check_interrupted(self) except -1:
        """Raise libzmq's error, unless a signal has interrupted the call: then it is repeated."""
        raise_unless_interrupted()
        return self.check_open()  # a signal's handler may have closed it

    def events(self):
        """See `Transfer.events`."""
        self.calls += 1
        return self.option(EVENTS) | (POLLIN if self.holds() or self.ahead is not None else 0)

    cdef bint holds(self) noexcept:
        """Return whether frames were received that could not be returned because memory ran out."""
        return self.is_full or self.begun is not None

    cpdef int option(self, int option) except? -1:
        """See `Transfer.option`."""
        cdef int value = 0
        cdef size_t size = sizeof(int)
        self.check_open()
        while zmq_getsockopt(self.handle, option, &value, &size) != 0:
            self.check_interrupted()
        return value

    cpdef bint receive(
        self, list into, Py_ssize_t max_messages, Py_ssize_t max_bytes, bint copies=True
    ) except -1:
        """See `Transfer.receive`.

        A received frame stays in `part` until it is in a list. So nothing is lost when memory runs
        out, and the next call continues where this one ended.
        """
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t frames = 0
        cdef int code
        cdef list message
        cdef int collects = PyGC_Disable()  # its finalisers are Python code
        self.calls += 1
        self.last_receive = self.calls
        try:
            self.check_open()
            if self.ahead is not None:
                left = self.ahead[max_messages:] or None  # first: memory may run out
                into.extend(self.ahead[:max_messages])
                max_messages -= len(self.ahead)
                self.ahead = left
            while not self.discarding or self.discard():
                if max_messages <= 0 or size >= max_bytes or frames >= self.max_frames:
                    break
                if not copies and self.spare_frame is None:
                    self.make_spare_frame()
                    continue  # a signal's handler may have received
                if self.spare is None:
                    self.spare = list_with_room()
                if not self.holds() and msg_recv(&self.part, self.handle, DONTWAIT) < 0:
                    code = zmq_errno()
                    if code == EAGAIN or code == EFSM:
                        self.must_send_first = code == EFSM
                        return True
                    self.check_interrupted()
                    continue
                if self.begun is None:
                    self.is_full = True
                    if copies and not msg_more(&self.part) and self.may_be():
                        into.append([copy_out(&self.part)])
                        self.is_full = False
                        size += <Py_ssize_t>msg_size(&self.part)
                        max_messages -= 1
                        self.received += 1
                        frames += 1
                        continue
                    self.begun = self.spare
                    self.spare = None
                if self.complete(copies):
                    if self.is_full:
                        continue
                    message = self.begun
                    into.append(message)
                    size += self.begun_bytes
                    frames += len(message)
                    self.received += 1
                else:
                    self.oversized += 1
                    self.discarding = msg_more(&self.part)
                    message = None
                self.begun = None
                self.begun_bytes = 0
                max_messages -= 1
                if message is not None:
                    finish(message, copies)
        finally:
            if collects:
                PyGC_Enable()
            self.let_go()
        return False

    def receive_ahead(self, bint copies=True):
        """See `Transfer.receive_ahead`."""
        cdef list ahead = []
        try:
            self.receive(ahead, 1 if self.ahead is None else len(self.ahead) + 1, UNLIMITED, copies)
        finally:
            if ahead:
                self.ahead = ahead

    cdef int make_spare_frame(self) except -1:
        """Make the frame that the next part needs. A signal handler may run, and do anything."""
        self.spare_frame = NewFrame()
        return self.check_open()

    cdef object take(self, bint copies):
        """Return the frame received last; without copying, in the spare frame."""
        if copies:
            return copy_out(&self.part)
        frame = self.spare_frame
        share_out(&self.part, frame)
        self.spare_frame = None
        return frame

    cdef void let_go(self) noexcept:
        """Free the content of the last frame, unless it is still to be taken."""
        if not self.holds():
            msg_close(&self.part)
            msg_init(&self.part)

    cdef bint may_be(self) noexcept:
        """Return whether the frames so far, with the one received last, are not too large."""
        return (
            self.max_message_bytes == UNLIMITED
            or self.begun_bytes + <Py_ssize_t>msg_size(&self.part) <= self.max_message_bytes
        )

    cdef bint complete(self, bint copies) except -1:
        """Take all frames of the message that has begun; return False if it is too large.

        No Python code runs between two of them, neither a signal handler nor a finaliser. If the
        spare frame is missing, `part` stays full.
        """
        while True:
            if self.is_full:
                if len(self.begun) >= self.max_frames or not self.may_be():
                    self.is_full = False
                    return False
                if not copies and self.spare_frame is None:
                    return True
                append(self.begun, self.take(copies))
                self.is_full = False
                self.begun_bytes += <Py_ssize_t>msg_size(&self.part)
            if not msg_more(&self.part):
                return True
            self.next_part()
            self.is_full = True

    cdef bint discard(self) except -1:
        """Discard frames of a message that is too large; return whether its end was reached."""
        cdef Py_ssize_t left = DISCARDED
        while self.discarding and left > 0:
            self.next_part()
            self.discarding = msg_more(&self.part)
            left -= 1
        return not self.discarding

    cdef int next_part(self) except -1:
        """Receive the next frame of a message that was begun."""
        while msg_recv(&self.part, self.handle, DONTWAIT) < 0:
            if zmq_errno() != EINTR:
                self.check_interrupted()
        return 0

    def send_lanes(
        self, list lanes, list moved, Py_ssize_t max_each, Py_ssize_t max_messages,
        Py_ssize_t max_bytes
    ):
        """See `Transfer.send_lanes`."""
        cdef Py_ssize_t index, sent, most
        cdef object ending
        for index in range(len(lanes)):
            if max_messages <= 0 or max_bytes <= 0:
                return index
            lane = lanes[index]
            ending = False
            sent = 0
            try:
                most = min(max_each, max_messages, <Py_ssize_t>len(lane))
                while sent < most and max_bytes > 0:
                    message = lane[0]
                    if not self.send_one(message):
                        ending = True
                        break
                    sent += 1
                    if not lane or lane[0] is not message:  # a signal handler has removed it
                        break
                    lane.popleft()
                    max_bytes -= size_of(message)
            except zmq.ZMQError as error:
                ending = error
            finally:
                max_messages -= sent
                if sent or type(ending) is not bool:
                    moved.append((index, sent, ending))
        return len(lanes)

    def command_clock(self):
        """See `Transfer.command_clock`."""
        return command_clock()

    cpdef bint send_one(self, message) except -1:
        """See `Transfer.send_one`."""
        cdef bint taken
        self.check_open()
        self.calls += 1
        if type(message) is not bytes:
            taken = self.send_parts(<list>message)
        elif PyBytes_GET_SIZE(message) < LARGE:
            taken = self.send_small(<bytes>message)
        else:
            taken = self.send_parts([message])
        self.sent += taken
        return taken

    cdef bint send_small(self, bytes frame) except -1:
        while zmq_send(
            self.handle, PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), DONTWAIT
        ) < 0:
            if zmq_errno() == EAGAIN:
                return False
            self.check_interrupted()
        return True

    cdef bint send_parts(self, list frames) except -1:
        """Send a message in two steps: code that may run Python or raise comes before the sending.

        libzmq returns ``EAGAIN`` within a message if its pipe has died. It has forgotten the
        earlier parts, and a type that spreads messages over pipes drops the following ones, up to
        the last. So this sends a last part, and then the whole message again.

        The list may be the caller's, which a signal handler may change. So it is read again after
        one has run, and a copy is prepared if that may run Python code.
        """
        cdef Py_ssize_t count, sent
        while True:
            count = len(frames)
            if are_short(frames):
                sent = self.send_each(frames, NULL)
            else:
                sent = self.send_prepared(frames if are_copied(frames) else frames[:])
            if sent == 0:
                return False
            if sent == count:
                return True
            if self.dropping and 0 < sent < count - 1:
                zmq_send(self.handle, NULL, 0, DONTWAIT)

    cdef Py_ssize_t send_prepared(self, list frames) except -1:
        """Make each frame a part, and send the parts; return how many libzmq took.

        Code that may raise comes first. The copying of the frames after the first takes long, so it
        comes when libzmq has taken the first: if that names a peer that is full, nothing is copied.
        """
        cdef zmq_msg_t few[FEW]
        cdef zmq_msg_t *parts = few
        cdef Py_ssize_t count = len(frames)
        if count > FEW:
            parts = <zmq_msg_t *>PyMem_Malloc(count * sizeof(zmq_msg_t))
            if parts == NULL:
                raise MemoryError
        try:
            prepare(parts, frames, count)
            try:
                self.check_open()  # a signal handler may have closed it
                return self.send_each(frames, parts)
            finally:
                close_parts(parts, count)  # a no-op for those that were sent
        finally:
            if parts != few:
                PyMem_Free(parts)

    cdef Py_ssize_t send_each(self, list frames, zmq_msg_t *parts) except -1:
        """Send the parts of frames, or without them short frames; return how many libzmq took.

        A signal handler may raise before the first, or this returns `INTERRUPTED`. None runs after
        it: an exception must not leave half a message behind.
        """
        cdef Py_ssize_t last = len(frames) - 1
        cdef Py_ssize_t index = 0
        cdef int flags, taken
        while index <= last:
            flags = DONTWAIT | SNDMORE if index < last else DONTWAIT
            frame = frames[index]
            if parts != NULL:
                if is_copied(frame):
                    memcpy(
                        msg_data(&parts[index]), PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame)
                    )
                taken = msg_send(&parts[index], self.handle, flags)
            else:
                taken = zmq_send(
                    self.handle, PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), flags
                )
            if taken >= 0:
                index += 1
            elif zmq_errno() == EAGAIN:
                break
            elif index == 0 or zmq_errno() != EINTR:
                self.check_interrupted()
                return INTERRUPTED
        return index


cdef int raise_unless_interrupted() except -1:
    """Raise libzmq's error; after a signal, run its handlers and return, to repeat the call."""
    cdef int code = zmq_errno()
    if code == ETERM:
        raise zmq.ContextTerminated()
    if code != EINTR:
        raise zmq.ZMQError(code)
    PyErr_CheckSignals()
    return 0


include "shortcuts.pxi"
