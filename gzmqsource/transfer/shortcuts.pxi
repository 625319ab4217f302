# One call for each message of a busy socket, past everything that most messages do not need.

cdef extern from *:
    """
    /* Whether a variable was set in a context since it was copied. One in which none was shares its
       variables with the original, so that this takes 3 ns; to copy for each message takes 17. */
    static int has_changed(PyObject *context, PyObject *base) {
        PyObject *equal = Py_TYPE(context)->tp_richcompare(context, base, Py_EQ);
        int changed = equal != Py_True;
        if (equal == NULL)
            PyErr_Clear();  /* values that cannot be compared */
        else
            Py_DECREF(equal);
        return changed;
    }
    """
    bint has_changed(object context, object base)


cdef class NativeShortcuts:
    """A `gzmqsource.transfer.interface.Shortcuts` in C."""

    cdef public bint may_pull
    cdef NativeTransfer transfer
    cdef NativeAllowance allowance
    cdef object backlog
    cdef dict lanes
    cdef object arrivals
    cdef Py_ssize_t least_frames
    cdef object readers
    cdef object writers
    cdef object pollers
    cdef object recheck
    cdef bint is_open
    cdef unsigned long long thread
    cdef dict partial
    cdef object receive_by_pyzmq
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
        self.partial = backlog.partial
        self.readers = waiting.readers
        self.writers = waiting.writers
        self.pollers = waiting.pollers
        self.recheck = waiting.recheck
        self.receive_by_pyzmq = BackendSocket.recv.__get__(transfer.socket)
        self.thread = PyThreadState_GetID(PyThreadState_Get())
        self.is_open = True

    def close(self):
        """See `Shortcuts.close`."""
        self.is_open = self.may_pull = False
        self.recheck = self.backlog = self.receive_by_pyzmq = None

    cdef bint may_pass(self):
        """Return whether this thread may use the socket, and something of the allowance is left."""
        return (
            self.is_open
            and self.allowance.left > 0
            and self.thread == PyThreadState_GetID(PyThreadState_Get())
        )

    cdef bint may_receive(self) except -1:
        return self.may_pull and self.may_pass() and not len(self.readers)

    def dispatch(self, list messages, handle, failed, base):
        """See `Shortcuts.dispatch`."""
        cdef object message = None
        cdef object context = PyContext_Copy(base)
        PyContext_Enter(context)
        try:
            while messages and self.allowance.count(1):
                try:
                    while True:
                        message = messages.pop()
                        handle(message)
                        if (
                            has_changed(context, base)
                            or not messages
                            or not self.allowance.count(1)
                        ):
                            break
                except BaseException as error:
                    failed(error, message)
                PyContext_Exit(context)
                context = PyContext_Copy(base)
                PyContext_Enter(context)
        finally:
            PyContext_Exit(context)

    def send(self, message):
        """See `Shortcuts.send`."""
        return self.send_or_hold(message, 0)

    def send_frames(self, message, int flags):
        """See `Shortcuts.send_frames`."""
        return self.send_or_hold(message, flags)

    cdef bint send_or_hold(self, message, int flags) except -1:
        cdef object begun = None
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
        if flags & SNDMORE:
            return self.hold(message, flags)
        if len(self.partial):
            begun = self.partial.get(getcurrent())
            if begun is not None:
                if type(begun) is not list:
                    return False
                message = <list>begun + (message if type(message) is list else [message])
        if len(self.lanes):
            return self.put(message)
        try:
            if not self.transfer.send_one(message):
                return False
        except zmq.ZMQError:
            return False  # the slow path meets it again, and handles it
        finally:
            self.recheck_if_awaited()
        if begun is not None:
            del self.partial[getcurrent()]
        self.allowance.count(1)
        return True

    cdef bint hold(self, message, int flags) except -1:
        """Hold frames of a message whose last frame is yet to come."""
        current = getcurrent()
        begun = self.partial.get(current)
        if begun is None:
            # With NOBLOCK, the first frame may have to raise.
            if flags & DONTWAIT or len(self.partial) >= FEW:
                return False
            self.partial[current] = list(message) if type(message) is list else [message]
            return True
        if type(begun) is not list:
            return False
        if type(message) is list:
            (<list>begun).extend(message)
        else:
            (<list>begun).append(message)
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

    def receive_uncopied(self, bint track):
        """See `Shortcuts.receive_uncopied`."""
        if not self.may_receive():
            return None
        try:
            frame = self.receive_by_pyzmq(DONTWAIT, False, track)
        except zmq.ZMQError as error:
            return False if error.errno == EAGAIN else None
        finally:
            self.recheck_if_awaited()
        self.allowance.count(1)
        return frame

    cdef int recheck_if_awaited(self) except -1:
        if len(self.readers) or len(self.writers) or len(self.pollers):
            self.recheck()
        return 0
