# The usual request in its handler, for a responder.

cdef enum:
    #: The most frames of a usual reply: far fewer than its asker would discard.
    USUAL_FRAMES = 16


cdef list payload_in(reply):
    """Return the payload that a handler has returned; None if it is not usual."""
    cdef list frames
    if type(reply) is bytes:
        return [reply]
    if type(reply) is not list:
        return None
    frames = <list>reply
    if not 0 < PyList_GET_SIZE(frames) <= USUAL_FRAMES:
        return None
    for frame in frames:
        if type(frame) is not bytes:
            return None
    return frames[:]  # it may be kept


@cython.final
cdef class Clerk:
    """The steps of `Workers.begin` and `Calling.handle`, without hooks."""

    cdef Desk desk
    cdef object workers, calling, waiting

    def __init__(self, Desk desk, workers, calling):
        self.desk = desk
        self.workers = workers
        self.calling = calling
        self.waiting = workers.waiting

    def begin(self, job):
        """See `Workers.begin`."""
        workers = self.workers
        if type(job) is not Job or PyDict_Size(self.waiting) or not workers.idle:
            return False
        workers.idle -= 1
        try:
            self.handle(job)
            if PyDict_Size(self.waiting):
                workers.go_on()
        finally:
            workers.idle += 1
            if PyDict_Size(self.waiting):
                workers.resume()
        return True

    cdef int handle(self, job) except -1:
        """See `Calling.handle`."""
        cdef list payload
        cdef int kind = REPLY
        if job.is_over:
            return 0
        calling = self.calling
        began = None
        try:
            greenlet = self.desk.running[job] = getcurrent()
            set_current(job)
            if get_slot(job, of_job.deadline) is not None:
                began = monotonic()
            set_slot(job, of_job.greenlet, greenlet)
            try:
                try:
                    reply = calling.answer(get_slot(job, of_job.payload))
                    payload = payload_in(reply)
                    if payload is None:
                        payload = calling.payload_of(reply)
                finally:
                    set_slot(job, of_job.greenlet, None)
                if began is not None:
                    calling.usual.note(monotonic() - began)
            except ENDING:
                raise
            except BaseException as error:
                payload, kind = calling.failed(job, error), ERROR
        except BaseException as error:
            if calling.ends(job, error):
                raise
            return 0
        self.desk.finish(job, kind, payload)
        return 0
