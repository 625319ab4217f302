# The usual request and the usual reply, for a requester.

def filled(call, bytes key, list frames, timeout, retries):
    """See `gzmqsource.workers._calls.filled`."""
    cdef Py_ssize_t size = 0
    cdef uint32_t left = 0
    if type(call) is not Call or PyBytes_GET_SIZE(key) != KEY_SIZE:
        return fill_other(call, key, frames, timeout, retries)
    if timeout is not None:
        left = <uint32_t>min(max(1.0, <double>timeout * 1000), MOST_LEFT)
    for frame in frames[2:]:
        size += len(frame)
    frames[0] = make_header(ASK, KEEP if retries else 0, 0, 0, key, left, NO_SESSION)
    set_slot(call, of_call.key, key)
    set_slot(call, of_call.timeout, timeout)
    set_slot(call, of_call.retries, retries)
    set_slot(call, of_call.size, size)
    set_slot(call, of_call.frames, frames)
    set_slot(call, of_call.place, None)
    set_slot(call, of_call.deadline, None)
    set_slot(call, of_call.past, None)
    return call


@cython.final
cdef class Deadlines:
    """The usual steps of a requester's `Clock`: other calls have the same tick."""

    cdef object start_other, stop_other
    cdef dict calls
    cdef double resolution

    def __init__(self, clock):
        self.start_other = clock.start
        self.stop_other = clock.stop
        self.calls = clock.calls
        self.resolution = clock.resolution

    cdef object near(self, double deadline):
        """Return the calls of its tick, or None."""
        return get(self.calls, <Py_ssize_t>(deadline / self.resolution) + 1)

    cdef int start(self, call, timeout) except -1:
        """See `Clock.start`."""
        cdef double deadline = <double>monotonic() + <double>timeout
        calls = self.near(deadline)
        if calls is None:
            self.start_other(call, timeout)
        else:
            set_slot(call, of_call.deadline, deadline)
            (<dict>calls)[call] = None
        return 0

    cdef int stop(self, call, deadline) except -1:
        """See `Clock.stop`."""
        calls = self.near(deadline)
        if calls is None or PyDict_Size(calls) < 2 or call not in <dict>calls:
            self.stop_other(call)
        else:
            del (<dict>calls)[call]
            set_slot(call, of_call.deadline, None)
        return 0


@cython.final
cdef class Mouth:
    """The steps of `Dispatcher.send_first` and `Connection.ask` for a usual request.

    A usual request is that of a greenlet, and goes to the only live connection at once.
    """

    cdef object dispatcher, begin_other, refuse
    cdef Deadlines deadlines
    cdef Py_ssize_t most, most_bytes

    def __init__(self, dispatcher, most, most_bytes):
        self.dispatcher = dispatcher
        self.begin_other = dispatcher.send_first
        self.refuse = dispatcher.refuse
        self.deadlines = Deadlines(dispatcher.clock)
        self.most = min(most, PY_SSIZE_T_MAX)
        self.most_bytes = min(most_bytes, PY_SSIZE_T_MAX)

    def begin(self, call):
        """See `Dispatcher.send_first`."""
        cdef Py_ssize_t admitted, held
        dispatcher = self.dispatcher
        connection = dispatcher.express
        source = None if connection is None else connection.link.source
        if source is None or type(call) is not Call:
            self.begin_other(call)
            return
        admitted = dispatcher.admitted
        held = <Py_ssize_t>dispatcher.bytes + <Py_ssize_t>get_slot(call, of_call.size)
        if admitted >= self.most or held > self.most_bytes:
            self.begin_other(call)
            return
        dispatcher.admitted = admitted + 1
        dispatcher.bytes = held
        try:
            self.ask(connection, source, call)
        except BaseException:
            self.refuse(call)
            raise
        timeout = get_slot(call, of_call.timeout)
        if timeout is not None:
            self.deadlines.start(call, timeout)

    cdef int ask(self, connection, source, call) except -1:
        """See `Connection.ask`."""
        outstanding = connection.outstanding
        key, frames = get_slot(call, of_call.key), get_slot(call, of_call.frames)
        set_slot(call, of_call.place, outstanding)
        (<dict>outstanding)[key] = call
        try:
            if not source._shortcut_send_now(frames):
                source.send(frames, False)
        except BaseException:
            del (<dict>outstanding)[key]
            raise
        if connection._may_queue or (connection.speaks and not connection.is_watched):
            connection._look_after_send(source)
        return 0


@cython.final
cdef class Ear:
    """The steps of `Connection.received` and `Dispatcher.answered` for a usual reply.

    A usual reply is that to an outstanding call, and reports no error.
    """

    cdef object connection, dispatcher, counts, read_other
    cdef Deadlines deadlines

    def __init__(self, connection, dispatcher):
        self.connection = connection
        self.dispatcher = dispatcher
        self.counts = dispatcher.counts
        self.deadlines = Deadlines(dispatcher.clock)
        self.read_other = connection.received

    def read(self, list message):
        """See `Connection.received`."""
        call = self.call_of(message)
        if call is None:
            self.read_other(message)
            return
        # No signal handler runs before `end`.
        outcome = message[2:]
        self.connection.heard = True
        del (<dict>self.connection.outstanding)[call.key]
        try:
            self.end(call, outcome)
        except BaseException:
            self.dispatcher.interrupted(call, outcome)
            raise

    cdef object call_of(self, list message):
        """Return the call that a usual reply ends; None if it is not usual."""
        cdef Py_ssize_t frames = PyList_GET_SIZE(message)
        cdef const unsigned char *header
        if (
            frames < 3
            or type(message[0]) is not bytes
            or PyBytes_GET_SIZE(message[0]) != HEADER_SIZE
            or type(message[1]) is not bytes
            or PyBytes_GET_SIZE(message[1])
        ):
            return None
        header = <const unsigned char *>PyBytes_AS_STRING(message[0])
        if header[AT_KIND] == ASK:  # a plain peer sends back what it got
            if frames > 4:  # it may report an error
                return None
        elif header[AT_KIND] != REPLY or not self.connection.speaks:
            return None
        return get(<dict>self.connection.outstanding, key_in(header))

    cdef int end(self, call, list outcome) except -1:
        """See `Dispatcher.answered`."""
        dispatcher = self.dispatcher
        if (
            type(call) is not Call
            or dispatcher.express is not self.connection
            or dispatcher.ending
        ):
            dispatcher.answered(self.connection, call, outcome)
            return 0
        self.counts.replies += 1
        deadline = get_slot(call, of_call.deadline)
        if deadline is not None:
            self.deadlines.stop(call, deadline)
        dispatcher.admitted -= 1
        dispatcher.bytes -= get_slot(call, of_call.size)
        call.hub.loop.run_callback(call.switch, outcome)  # see `Call.settle`
        return 0
