# The number of messages that may pass, and the time for that.

cdef double clock(int which) noexcept nogil:
    """Return the time in seconds."""
    cdef timespec now
    clock_gettime(which, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class NativeSlice:
    """A `gzmqsource.transfer.pure.PureSlice` in C."""

    cdef public double ends
    cdef public bint is_crowded


cdef class NativeAllowance:
    """A `gzmqsource.transfer.pure.PureAllowance` in C."""

    cdef public Py_ssize_t left
    cdef public Py_ssize_t max_messages
    cdef public double max_seconds
    cdef double began
    cdef double ends
    cdef double looked
    cdef Py_ssize_t granted
    cdef double short_while
    cdef Py_ssize_t stride
    cdef Py_ssize_t until_look

    def refill(self, Py_ssize_t messages, double seconds):
        """See `PureAllowance.refill`."""
        self.grant(clock(STEADY_CLOCK), messages, seconds)

    cdef void grant(self, double now, Py_ssize_t messages, double seconds) noexcept:
        self.looked = self.began = now
        self.ends = now + seconds
        self.short_while = seconds / 16
        self.left = self.granted = messages
        self.stride = 1
        self.until_look = 2  # the first message passes

    def restart_within(self, NativeSlice shared):
        """See `PureAllowance.restart_within`."""
        cdef double now
        if shared.is_crowded:
            return False
        now = clock(STEADY_CLOCK)
        if now >= shared.ends:
            return False
        self.grant(now, min(AFTER_WAIT, self.max_messages), min(self.max_seconds / 8, shared.ends - now))
        return True

    def seconds_left(self):
        """See `PureAllowance.seconds_left`."""
        return max(0.0, self.ends - clock(STEADY_CLOCK))

    def likely(self):
        """See `PureAllowance.likely`."""
        cdef double now = clock(STEADY_CLOCK)
        cdef double left
        cdef Py_ssize_t passed = self.granted - self.left
        if passed <= 0 or now <= self.began:
            return max(1, self.left)
        left = (self.ends - now) / (now - self.began) * passed
        return max(1, <Py_ssize_t>min(left, <double>self.left))

    def spend(self, Py_ssize_t messages=1):
        """See `PureAllowance.spend`."""
        return self.count(messages)

    def spend_batch(self, Py_ssize_t messages):
        """See `PureAllowance.spend_batch`."""
        self.count(messages)
        self.stride = self.until_look = 1

    cdef bint count(self, Py_ssize_t messages) noexcept:
        """Count messages that pass. A look at the clock costs 25 ns."""
        cdef double now
        if self.left <= 0:
            return False
        self.until_look -= messages
        if self.until_look <= 0:
            now = clock(STEADY_CLOCK)
            if now >= self.ends:
                self.left = 0
                return False
            # Long strides for quick messages; after a slow one, the next message has a look.
            if now - self.looked < self.short_while:
                self.stride = min(2 * self.stride, LONGEST_STRIDE)
            else:
                self.stride = 1
            self.until_look = self.stride
            self.looked = now
        self.left -= messages
        return True
