# The usual reply, for a requester.

@cython.final
cdef class Ear:
    """The steps of `Connection.received` and `Dispatcher.answered` for a usual reply.

    A usual reply is that to an outstanding call, and reports no error.
    """

    cdef object connection, dispatcher, counts, stop, read_other

    def __init__(self, connection, dispatcher):
        self.connection = connection
        self.dispatcher = dispatcher
        self.counts = dispatcher.counts
        self.stop = dispatcher.clock.stop
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
        if dispatcher.express is not self.connection or dispatcher.ending:
            dispatcher.answered(self.connection, call, outcome)
            return 0
        self.counts.replies += 1
        if call.deadline is not None:
            self.stop(call)
        dispatcher.admitted -= 1
        dispatcher.bytes -= call.size
        if type(call) is Call:  # see `Call.settle`
            call.hub.loop.run_callback(call.switch, outcome)
        else:
            call.settle(outcome)
        return 0
