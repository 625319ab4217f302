# The slots of the objects of each request, where they are: by name, each takes 20 ns and more.

cdef extern from *:
    """
    #include <structmember.h>

    #define SLOT(object, offset) (*(PyObject **) ((char *) (object) + (offset)))

    /* Where the slot of a descriptor is in an object, in bytes; 0 if it has another kind. */
    static Py_ssize_t offset_of(PyObject *descriptor) {
        if (!Py_IS_TYPE(descriptor, &PyMemberDescr_Type))
            return 0;
        return ((PyMemberDescrObject *) descriptor)->d_member->offset;
    }

    static inline PyObject *get_slot(PyObject *object, Py_ssize_t offset) {
        PyObject *value = SLOT(object, offset);
        if (value == NULL)
            PyErr_SetString(PyExc_AttributeError, "a slot is not set");
        Py_XINCREF(value);
        return value;
    }

    static inline void set_slot(PyObject *object, Py_ssize_t offset, PyObject *value) {
        PyObject *old = SLOT(object, offset);
        Py_INCREF(value);
        SLOT(object, offset) = value;
        Py_XDECREF(old);
    }
    """
    Py_ssize_t offset_of(object descriptor)
    object get_slot(object, Py_ssize_t offset)
    void set_slot(object, Py_ssize_t offset, object value)


cdef Py_ssize_t find_slot(cls, str name) except -1:
    """Return where the slot of a name is in each object of a class."""
    cdef Py_ssize_t offset = offset_of(getattr(cls, name, None))
    if not offset:
        raise ImportError(f"{cls.__name__}.{name} is not a slot")
    return offset


cdef struct OfJob:
    Py_ssize_t envelope, payload, asker, key, attempt, flags, deadline, began, alias, greenlet


cdef struct OfAsker:
    Py_ssize_t route, flags, jobs, silence, is_recent


cdef struct OfWorker:
    Py_ssize_t name, slots, jobs, state, silence


cdef struct OfCall:
    Py_ssize_t key, frames, size, timeout, deadline, retries, place, past


cdef OfJob of_job
cdef OfAsker of_asker
cdef OfCall of_call

of_job.envelope = find_slot(Job, "envelope")
of_job.payload = find_slot(Job, "payload")
of_job.asker = find_slot(Job, "asker")
of_job.key = find_slot(Job, "key")
of_job.attempt = find_slot(Job, "attempt")
of_job.flags = find_slot(Job, "flags")
of_job.deadline = find_slot(Job, "deadline")
of_job.began = find_slot(Job, "began")
of_job.alias = find_slot(Job, "alias")
of_job.greenlet = find_slot(Job, "greenlet")

of_asker.route = find_slot(Asker, "route")
of_asker.flags = find_slot(Asker, "flags")
of_asker.jobs = find_slot(Asker, "jobs")
of_asker.silence = find_slot(Asker, "silence")
of_asker.is_recent = find_slot(Asker, "is_recent")

of_call.key = find_slot(Call, "key")
of_call.frames = find_slot(Call, "frames")
of_call.size = find_slot(Call, "size")
of_call.timeout = find_slot(Call, "timeout")
of_call.deadline = find_slot(Call, "deadline")
of_call.retries = find_slot(Call, "retries")
of_call.place = find_slot(Call, "place")
of_call.past = find_slot(Call, "past")
