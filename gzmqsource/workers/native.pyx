# cython: language_level=3, boundscheck=False, wraparound=False
"""The usual request and the usual reply in C, for a responder, a broker and a requester.

Each class here takes the steps of classes in Python. If a message is not usual, that is found
before anything has changed, and the classes in Python process it. The steps of a requester are in
``asking.pxi``, and those of handlers in ``calling.pxi``.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Size
from cpython.list cimport PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    PyObject *PyDict_GetItemWithError(object dict, object key) except? NULL

cdef extern from *:
    const char *GZMQSOURCE_VERSION  # setup.py defines it

cdef extern from *:
    """
    static PyObject *new_object(PyObject *type, PyObject *no_arguments) {
        return ((PyTypeObject *) type)->tp_new((PyTypeObject *) type, no_arguments, NULL);
    }
    """
    object new_object(object type, tuple no_arguments)

import time

from gevent import getcurrent

from gzmqsource._source.failures import ENDING
from gzmqsource.workers._askers import Asker
from gzmqsource.workers._calls import Call
from gzmqsource.workers._calls import filled as fill_other
from gzmqsource.workers._current import current
from gzmqsource.workers._header import MAGIC as _MAGIC
from gzmqsource.workers._header import MOST_LEFT as _MOST_LEFT
from gzmqsource.workers._header import Flag, Kind
from gzmqsource.workers._jobs import Job

#: The version of gzmqsource that this was built for.
version = GZMQSOURCE_VERSION.decode()

cdef enum:
    #: Where the fields of a header are, and its bytes.
    AT_KIND = 4
    AT_FLAGS = 5
    AT_ATTEMPT = 6
    AT_DETAIL = 7
    AT_KEY = 8
    AT_LEFT = 24
    AT_SESSION = 28
    KEY_SIZE = 16
    HEADER_SIZE = 32

cdef int ASK = int(Kind.ASK)
cdef int REPLY = int(Kind.REPLY)
cdef int ERROR = int(Kind.ERROR)
cdef int KEEP = int(Flag.KEEP)
cdef bytes MAGIC = _MAGIC
cdef double MOST_LEFT = _MOST_LEFT
cdef bytes EMPTY = b""
cdef bytes NO_KEY = bytes(KEY_SIZE)
cdef bytes NO_SESSION = bytes(4)
cdef tuple NOTHING = ()
cdef object monotonic = time.monotonic
cdef object set_current = current.set

include "slots.pxi"


cdef object get(dict mapping, key):
    """Return the value of a key, or None."""
    cdef PyObject *value = PyDict_GetItemWithError(mapping, key)
    return None if value == NULL else <object>value


cdef const unsigned char *header_in(list message, int kind) except? NULL:
    """Return the header of a message with one routing id and a payload, or NULL."""
    cdef const unsigned char *header
    if PyList_GET_SIZE(message) < 4:
        return NULL
    for index in range(3):
        if type(message[index]) is not bytes:
            return NULL
    if (
        PyBytes_GET_SIZE(message[1]) != HEADER_SIZE
        or PyBytes_GET_SIZE(message[2])
        or not PyBytes_GET_SIZE(message[0])
    ):
        return NULL
    header = <const unsigned char *>PyBytes_AS_STRING(message[1])
    if memcmp(header, PyBytes_AS_STRING(MAGIC), AT_KIND) or header[AT_KIND] != kind:
        return NULL
    return header


cdef bytes key_in(const unsigned char *header):
    return PyBytes_FromStringAndSize(<const char *>header + AT_KEY, KEY_SIZE)


cdef uint32_t left_in(const unsigned char *header) noexcept:
    header += AT_LEFT
    return <uint32_t>header[0] << 24 | header[1] << 16 | header[2] << 8 | header[3]


cdef bytes make_header(
    int kind, int flags, int attempt, int detail, bytes key, uint32_t left, bytes session
):
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, HEADER_SIZE)
    cdef unsigned char *header = <unsigned char *>PyBytes_AS_STRING(frame)
    memcpy(header, PyBytes_AS_STRING(MAGIC), AT_KIND)
    header[AT_KIND] = kind
    header[AT_FLAGS] = flags
    header[AT_ATTEMPT] = attempt
    header[AT_DETAIL] = detail
    memcpy(header + AT_KEY, PyBytes_AS_STRING(key), KEY_SIZE)
    header[AT_LEFT] = left >> 24
    header[AT_LEFT + 1] = left >> 16 & 0xFF
    header[AT_LEFT + 2] = left >> 8 & 0xFF
    header[AT_LEFT + 3] = left & 0xFF
    memcpy(header + AT_SESSION, PyBytes_AS_STRING(session), HEADER_SIZE - AT_SESSION)
    return frame


cdef object make_job(
    list message, Py_ssize_t before, asker, bytes key, int attempt, int flags
):
    """Return the job of a request with so many frames before the payload."""
    job = new_object(Job, NOTHING)
    set_slot(job, of_job.envelope, message[:before])
    set_slot(job, of_job.payload, message[before:])
    set_slot(job, of_job.asker, asker)
    set_slot(job, of_job.key, key)
    set_slot(job, of_job.attempt, attempt)
    set_slot(job, of_job.flags, flags)
    set_slot(job, of_job.deadline, None)
    set_slot(job, of_job.began, 0.0)
    set_slot(job, of_job.alias, EMPTY)
    set_slot(job, of_job.greenlet, None)
    return job


@cython.final
cdef class Desk:
    """The steps of `Reception` and `Handling` for a usual request, and for its usual reply.

    A usual request comes from an asker that is known and not routed, and under a new key, or from
    a plain peer. A usual reply is one for which its peer waits, and that libzmq takes at once.
    """

    cdef object reception, handling, kept, replies
    cdef bint at_router
    cdef dict jobs, running
    cdef object asker, begin, wait, read_other, end_other, send
    cdef bytes session

    def __init__(self, reception, handling, parts, source):
        self.reception = reception
        self.handling = handling
        self.at_router = parts.at_router
        self.kept = parts.kept
        self.replies = parts.kept.replies
        self.asker = parts.askers.get
        self.jobs = handling.jobs
        self.running = handling.running
        self.read_other = reception.read
        self.end_other = handling.end
        self.wait = reception.wait
        self.send = source._shortcut_send if handling.waits else source._shortcut_send_now
        self.session = parts.voice.session.to_bytes(4, "big")

    def let_begin(self, begin):
        """Set what begins a job: `Places.begin`, or a quicker form of it."""
        self.begin = begin

    def read(self, list message):
        """See `Reception.read`."""
        job = self.job_of(message)
        if job is None:
            self.read_other(message)
        elif not self.begin(job):
            self.wait(job)

    cdef object job_of(self, list message):
        """Return the job of a usual request; None if it is not usual, and nothing has changed."""
        cdef const unsigned char *header = header_in(message, ASK)
        cdef bytes key
        cdef uint32_t left
        if header == NULL:
            return self.plain_job_of(message)
        asker = self.asker(message[0])
        reception = self.reception
        if asker is None or reception.is_leaving or not reception.is_watched:
            return None
        key = key_in(header)
        if key in self.jobs or (PyDict_Size(self.replies) and key in self.replies):
            return None
        job = make_job(message, 3, asker, key, header[AT_ATTEMPT], header[AT_FLAGS])
        if header[AT_DETAIL]:
            job.priority = header[AT_DETAIL]
        left = left_in(header)
        if left:
            set_slot(job, of_job.deadline, monotonic() + left / 1000.0)
        set_slot(asker, of_asker.silence, 0)
        set_slot(asker, of_asker.is_recent, True)
        reception.requests += 1
        self.jobs[key] = (<dict>get_slot(asker, of_asker.jobs))[key] = job
        return job

    cdef object plain_job_of(self, list message):
        """Return the job of a plain peer that is connected to this ROUTER, or None, likewise."""
        reception = self.reception
        if (
            not self.at_router
            or PyList_GET_SIZE(message) < 3
            or type(message[1]) is not bytes
            or PyBytes_GET_SIZE(message[1])
            or type(message[0]) is not bytes
            or not reception.is_watched
        ):
            return None
        reception.requests += 1
        reception.last_plain = monotonic()
        return make_job(message, 2, None, EMPTY, 0, 0)

    def end(self, job, int kind, list payload):
        """See `Handling.end`."""
        self.finish(job, kind, payload)

    cdef int finish(self, job, int kind, list payload) except -1:
        try:
            if kind == REPLY and self.has_replied(job, payload):
                return 0
        except BaseException:  # a signal handler's, before anything was sent
            self.end_other(job, kind, payload)
            raise
        self.end_other(job, kind, payload)
        return 0

    cdef bint has_replied(self, job, list payload) except -1:
        """Send a usual reply, and end its job; return False if it is not usual."""
        cdef bytes header, key
        cdef int flags
        cdef list reply
        if (
            type(job) is not Job
            or job.is_over
            or job.is_cancelled
            or self.handling.changed is not None
        ):
            return False
        asker = get_slot(job, of_job.asker)
        if asker is None:
            if not self.send(<list>get_slot(job, of_job.envelope) + payload):
                return False
            del self.running[job]
            self.handling.replies += 1
            return True
        key = get_slot(job, of_job.key)
        flags = <int>get_slot(job, of_job.flags) & KEEP
        if flags:
            self.kept.add(key, REPLY, payload)
        flags |= <int>get_slot(asker, of_asker.flags)
        header = make_header(
            REPLY, flags, get_slot(job, of_job.attempt), 0, key, 0, self.session
        )
        reply = [*<list>get_slot(asker, of_asker.route), header, EMPTY]
        reply += payload
        if not self.send(reply):
            return False
        del self.jobs[key]
        del (<dict>get_slot(asker, of_asker.jobs))[key]
        del self.running[job]
        self.handling.replies += 1
        return True


@cython.final
cdef class Match:
    """The steps of `Back` for a usual request, and for its usual reply.

    A usual request is that of a plain peer, or has a key that its worker does not know, and libzmq
    takes it at once.
    """

    cdef Desk desk
    cdef OfWorker of_worker
    cdef object line, idle, partly, pop_idle, move_partly, ready
    cdef object give_other, put_back, read_other, fill, send, usual, new_key
    cdef dict workers, running

    def __init__(self, Desk desk, back, parts, forwarding, worker_class):
        self.desk = desk
        self.of_worker.name = find_slot(worker_class, "name")
        self.of_worker.slots = find_slot(worker_class, "slots")
        self.of_worker.jobs = find_slot(worker_class, "jobs")
        self.of_worker.state = find_slot(worker_class, "state")
        self.of_worker.silence = find_slot(worker_class, "silence")
        self.line = parts.line.jobs
        self.workers = back.roster.workers
        self.running = forwarding.running
        self.idle = back.roster.idle
        self.partly = back.roster.partly
        self.pop_idle = back.roster.idle.popitem
        self.move_partly = back.roster.partly.move_to_end
        self.ready = back.roster.ready
        self.give_other = back.give
        self.put_back = back.put_back
        self.read_other = back.read
        self.fill = back.fill
        self.send = back.source._shortcut_send_now
        self.usual = forwarding.usual
        self.new_key = back.new_key

    def begin(self, job):
        """See `Back.begin`."""
        while (worker := self.take()) is not None:
            if self.has_given(worker, job) or self.give_other(worker, job):
                return True
        return False

    cdef object take(self):
        """See `Roster.take`."""
        cdef Py_ssize_t slots
        if PyDict_Size(self.idle):
            worker = self.pop_idle(False)[0]
            if <Py_ssize_t>get_slot(worker, self.of_worker.slots) > 1:
                self.partly[worker] = None
        elif PyDict_Size(self.partly):
            worker = next(iter(self.partly))
            slots = get_slot(worker, self.of_worker.slots)
            if PyDict_Size(get_slot(worker, self.of_worker.jobs)) + 1 < slots:
                self.move_partly(worker)
            else:
                del self.partly[worker]
        else:
            worker = None
        return worker

    cdef int note_freed(self, worker) except -1:
        """See `Roster.freed`."""
        cdef Py_ssize_t jobs, slots
        if get_slot(worker, self.of_worker.state) is self.ready:
            jobs = PyDict_Size(get_slot(worker, self.of_worker.jobs))
            slots = get_slot(worker, self.of_worker.slots)
            if jobs:
                if jobs < slots:
                    self.partly[worker] = None
            elif slots:
                self.partly.pop(worker, None)
                self.idle[worker] = None
        return 0

    cdef bint has_given(self, worker, job) except -1:
        """Send a usual job to a worker; return False if it is not usual, and nothing has changed."""
        cdef bytes key
        cdef uint32_t left = 0
        cdef double now, deadline
        cdef list request
        cdef dict jobs = get_slot(worker, self.of_worker.jobs)
        if type(job) is not Job:
            return False
        key = get_slot(job, of_job.alias)
        if not PyBytes_GET_SIZE(key):
            key = get_slot(job, of_job.key)
        if not PyBytes_GET_SIZE(key):
            key = job.alias = self.new_key()
        if PyBytes_GET_SIZE(key) != KEY_SIZE or key in jobs:
            return False
        if memcmp(PyBytes_AS_STRING(key), PyBytes_AS_STRING(NO_KEY), KEY_SIZE) == 0:
            return False
        timed = get_slot(job, of_job.deadline)
        if timed is not None:
            deadline = timed
            now = monotonic()
            set_slot(job, of_job.began, now)
            left = <uint32_t>min(max(1.0, (deadline - now) * 1000), MOST_LEFT)
        attempt = get_slot(job, of_job.attempt)
        request = [
            get_slot(worker, self.of_worker.name),
            make_header(ASK, 0, attempt, job.priority, key, left, NO_SESSION),
            EMPTY,
        ]
        request += <list>get_slot(job, of_job.payload)
        jobs[key] = job
        self.running[job] = worker
        try:
            if self.send(request):
                return True
        except BaseException:  # a signal handler's, before anything was sent
            self.put_back(worker, job)
            raise
        del jobs[key]
        del self.running[job]
        return False

    def read(self, list message):
        """See `Back.read`."""
        if not self.has_ended(message):
            self.read_other(message)

    cdef bint has_ended(self, list message) except -1:
        """End a job by a worker's reply; return False if that is unusual, and nothing has changed."""
        cdef const unsigned char *header = header_in(message, REPLY)
        cdef dict jobs
        cdef bytes key
        if header == NULL:
            return False
        worker = get(self.workers, message[0])
        if worker is None:
            return False
        key = key_in(header)
        jobs = get_slot(worker, self.of_worker.jobs)
        job = get(jobs, key)
        if job is None or get(self.running, job) is not worker:
            return False
        began = get_slot(job, of_job.began)
        try:
            if not self.desk.has_replied(job, message[3:]):
                return False
        except BaseException:  # a signal handler's, before anything was sent
            self.read_other(message)
            raise
        set_slot(worker, self.of_worker.silence, 0)
        del jobs[key]
        if began:
            self.usual.note(monotonic() - began)
        self.note_freed(worker)
        if PyDict_Size(self.line):
            self.fill()
        return True


include "calling.pxi"
include "asking.pxi"
