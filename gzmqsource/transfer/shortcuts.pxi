# One call for each message of a busy socket, without all steps that most messages do not need.

@cython.final
cdef class NativeSizes:
    """A `gzmqsource.transfer.pure.PureSizes` in C, as a ring."""

    cdef public Py_ssize_t most
    cdef public Py_ssize_t total
    cdef NativeSizes whole
    cdef Py_ssize_t *ring
    cdef Py_ssize_t mask, first, count

    def __cinit__(self):
        self.mask = -1

    def __init__(self, Py_ssize_t most, NativeSizes whole=None):
        self.most = most
        self.whole = whole

    def __dealloc__(self):
        PyMem_Free(self.ring)

    def __len__(self):
        return self.count

    def append(self, Py_ssize_t size):
        """See `PureSizes.append`."""
        self.push(size)

    def settle(self, Py_ssize_t left):
        """See `PureSizes.settle`."""
        cdef Py_ssize_t freed = 0
        if not 0 <= left <= self.count:
            raise IndexError(left)
        for _ in range(left):
            freed += self.ring[self.first]
            self.first = (self.first + 1) & self.mask
        self.count -= left
        self.add(-freed)

    def remove(self, Py_ssize_t index):
        """See `PureSizes.remove`."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        self.add(-self.ring[(self.first + index) & self.mask])
        self.count -= 1
        if index <= self.count // 2:
            for index in range(index, 0, -1):
                self.copy(index - 1, index)
            self.first = (self.first + 1) & self.mask
        else:
            for index in range(index, self.count):
                self.copy(index + 1, index)

    def recount(self, list sizes):
        """See `PureSizes.recount`."""
        self.add(-self.total)
        self.first = self.count = 0
        for size in sizes:
            self.push(size)

    cdef void copy(self, Py_ssize_t old, Py_ssize_t new) noexcept:
        self.ring[(self.first + new) & self.mask] = self.ring[(self.first + old) & self.mask]

    cdef void add(self, Py_ssize_t size) noexcept:
        self.total += size
        if self.whole is not None:
            self.whole.total += size

    cdef int push(self, Py_ssize_t size) except -1:
        if self.count > self.mask:
            self.grow()
        self.ring[(self.first + self.count) & self.mask] = size
        self.count += 1
        self.add(size)
        return 0

    cdef int grow(self) except -1:
        """Double the ring; its content begins at the start then."""
        cdef Py_ssize_t places = max(8, 2 * (self.mask + 1))
        cdef Py_ssize_t index
        cdef Py_ssize_t *ring = <Py_ssize_t *>PyMem_Malloc(places * sizeof(Py_ssize_t))
        if ring == NULL:
            raise MemoryError
        for index in range(self.count):
            ring[index] = self.ring[(self.first + index) & self.mask]
        PyMem_Free(self.ring)
        self.ring = ring
        self.mask = places - 1
        self.first = 0
        return 0


cpdef Py_ssize_t weight_of(message) except -1:
    """See `gzmqsource.transfer.message.weight_of`."""
    return size_of(message) + OVERHEAD * (1 if type(message) is bytes else len(<list>message))


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
    cdef object waiting
    cdef bint is_open
    cdef unsigned long long thread
    cdef dict partial
    cdef bint copies
    # The lane, once it has been needed, and its attributes.
    cdef object lane
    cdef object append
    cdef NativeSizes sizes
    cdef object putters
    cdef Py_ssize_t maxsize
    cdef double resolution
    cdef double noted

    def __init__(
        self, NativeTransfer transfer, NativeAllowance allowance, backlog, waiting, bint copies
    ):
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
        self.waiting = waiting
        self.copies = copies
        self.thread = PyThreadState_GetID(PyThreadState_Get())
        self.is_open = True

    def close(self):
        """See `Shortcuts.close`."""
        self.is_open = self.may_pull = False
        self.waiting = self.backlog = None

    cdef bint is_here(self):
        """Return whether this thread may use the socket."""
        return self.is_open and self.thread == PyThreadState_GetID(PyThreadState_Get())

    cdef bint may_receive(self) except -1:
        return (
            self.may_pull
            and self.allowance.left > 0
            and self.is_here()
            and not PyDict_Size(self.readers)
        )

    def dispatch(self, list messages, handle, failed, base, returned=None):
        """See `Shortcuts.dispatch`."""
        cdef object message = None
        cdef object context, value
        while messages and self.allowance.count(1):
            context = PyContext_Copy(base)
            PyContext_Enter(context)
            try:
                while True:
                    message = messages.pop()
                    value = handle(message)
                    if value is not None and returned is not None:
                        returned(value)
                    # It takes 3 ns to see that no variable is set, and 17 to copy the context. If
                    # the base has some, each message has a copy: a value may have become another
                    # one that is equal.
                    if (
                        len(context)
                        or not messages
                        or not self.allowance.count(1)
                    ):
                        break
            except BaseException as error:
                failed(error, message)
            finally:
                PyContext_Exit(context)

    def send(self, message):
        """See `Shortcuts.send`."""
        return self.allowance.left > 0 and self.send_or_hold(message, 0)

    def send_now(self, message):
        """See `Shortcuts.send_now`."""
        return self.send_or_hold(message, 0)

    def send_frames(self, message, int flags):
        """See `Shortcuts.send_frames`."""
        return self.allowance.left > 0 and self.send_or_hold(message, flags)

    cdef bint send_or_hold(self, message, int flags) except -1:
        cdef object begun = None
        if not self.is_here() or len(self.arrivals):
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
        if PyDict_Size(self.lanes) and (
            self.least_frames < 2 or (<list>message)[0] in self.lanes
        ):
            return self.put(message)
        self.recheck_if_awaited()
        try:
            if not self.transfer.send_one(message):
                return False
        except zmq.ZMQError:
            return False  # the slow path meets it again, and handles it
        if begun is not None:
            del self.partial[getcurrent()]
        self.allowance.count(1)
        return True

    cdef bint hold(self, message, int flags) except -1:
        """Hold frames of a message whose last frame has not come yet."""
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
        cdef Py_ssize_t size
        if type(message) is list:
            message = list(message)
        if self.lane is None and not self.find_lane():
            return False
        now = clock(COARSE_CLOCK)  # 5 ns
        if now - self.noted > self.resolution:
            self.noted = now
            self.lane.note_time()
        if type(message) is bytes:
            size = PyBytes_GET_SIZE(message) + OVERHEAD
        else:
            size = weight_of(message)
        # From here on no Python code runs, or another thread could take the same room. A signal
        # handler may have ended the lane before.
        if (
            not PyDict_Size(self.lanes)
            or self.sizes.count >= self.maxsize
            or self.sizes.total + size > self.sizes.most
            or len(self.putters)
            or len(self.arrivals)
        ):
            return False
        self.sizes.push(size)
        self.append(message)
        self.allowance.count(1)
        return True

    cdef bint find_lane(self) except -1:
        """Find the lane, once there is one; return whether there is."""
        self.lane = self.backlog.lane
        if self.lane is None:
            return False
        self.append = self.lane.queue.append
        self.putters = self.lane.waiting
        self.sizes = self.lane.sizes
        self.maxsize = self.lane.maxsize
        self.resolution = self.lane.resolution
        return True

    def receive(self):
        """See `Shortcuts.receive`."""
        cdef list messages = []
        cdef bint is_empty
        if not self.may_receive() or not self.allowance.count(1):
            return None
        self.recheck_if_awaited()
        try:
            is_empty = self.transfer.receive(messages, 1, 1, self.copies)
        except zmq.ZMQError:
            return None  # the slow path meets it again
        if not messages:  # the slow path reports what was discarded, and EFSM
            self.allowance.left += 1
            return False if is_empty and not self.transfer.must_send_first else None
        return messages[0]

    def receive_frame(self):
        """See `Shortcuts.receive_frame`."""
        return self.receive_into(None)

    def receive_uncopied(self, bint track):
        """See `Shortcuts.receive_uncopied`."""
        return self.receive_into(NewFrame(track=track)) if self.may_receive() else None

    cdef object receive_into(self, frame):
        """Receive one frame into an empty `zmq.Frame`, or as bytes."""
        cdef NativeTransfer transfer = self.transfer
        if (
            not self.may_receive()
            or transfer.begun is not None
            or not self.allowance.count(1)
        ):
            return None
        self.recheck_if_awaited()
        transfer.check_open()  # a signal handler may have closed it
        transfer.calls += 1
        transfer.last_receive = transfer.calls
        try:
            if not transfer.is_full and msg_recv(&transfer.part, transfer.handle, DONTWAIT) < 0:
                self.allowance.left += 1
                return False if zmq_errno() == EAGAIN else None
            transfer.is_full = True
            if frame is None:
                frame = copy_out(&transfer.part)
            else:
                share_out(&transfer.part, frame)
            transfer.is_full = False
            if msg_more(&transfer.part) and type(frame) is not bytes:
                set_more(frame, True)
        finally:
            transfer.let_go()
        return frame

    cdef int recheck_if_awaited(self) except -1:
        """See `Readiness.recheck`."""
        # Most sends of a batch find the look that the first one has scheduled.
        if PyDict_Size(self.pollers) or (
            (PyDict_Size(self.readers) or PyDict_Size(self.writers))
            and not self.waiting.look_scheduled
        ):
            self.waiting.recheck()
        return 0
