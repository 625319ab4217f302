# The libzmq that pyzmq has loaded, and the C functions that the native transfer needs.
#
# pyzmq brings its own libzmq, and a second copy in the process would have contexts of its own and
# crash on pyzmq's sockets. So the functions are looked up, at import, through pyzmq's own extension
# module. Nothing of libzmq is needed to build this.

import ctypes
import sys

from zmq.backend import Frame

_backend = BackendSocket.__module__
if not _backend.startswith("zmq.backend.cython"):
    raise ImportError(f"it needs pyzmq's backend in Cython, and this is {_backend}")
_pyzmq = sys.modules[_backend]

from posix.time cimport clock_gettime, timespec

cdef extern from *:
    """
    /* The clock of `time.monotonic`, by which a slice ends: on macOS it stops in sleep. */
    #ifdef __APPLE__
    #define STEADY_CLOCK CLOCK_UPTIME_RAW
    #else
    #define STEADY_CLOCK CLOCK_MONOTONIC
    #endif

    #ifdef CLOCK_MONOTONIC_COARSE
    #define COARSE_CLOCK CLOCK_MONOTONIC_COARSE
    #else
    #define COARSE_CLOCK CLOCK_MONOTONIC
    #endif
    """
    const int STEADY_CLOCK
    const int COARSE_CLOCK

cdef extern from *:
    """
    /* libzmq looks for commands in a send if its clock has moved on by 3,000,000 since the last look
       (config.hpp). Its clock is the processor's counter on x86. Elsewhere the clock depends on the
       build, and the shortest delay of all is assumed, which is that of a counter of 6 GHz. */

    #include <stdint.h>
    #include <time.h>

    #if defined __i386__ || defined __x86_64__
    static double command_clock(void) {
        uint32_t low, high;
        __asm__ volatile ("rdtsc" : "=a" (low), "=d" (high));
        return (double) ((uint64_t) high << 32 | low) / 3000000;
    }
    #else
    static double command_clock(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (now.tv_sec * 1e9 + now.tv_nsec) / 400000;
    }
    #endif
    """
    double command_clock() noexcept

cdef extern from *:
    """
    /* As many frames as most messages have fit into this list without allocating. */
    static PyObject *list_with_room(void) {
        PyObject *list = PyList_New(3);
        if (list)
            Py_SET_SIZE(list, 0);
        return list;
    }

    static int append(PyObject *list, PyObject *frame) {
        Py_ssize_t size = Py_SIZE(list);
        if (size >= ((PyListObject *) list)->allocated)
            return PyList_Append(list, frame);
        Py_INCREF(frame);
        PyList_SET_ITEM(list, size, frame);
        Py_SET_SIZE(list, size + 1);
        return 0;
    }
    """
    list list_with_room()
    int append(list into, object frame) except -1

cdef extern from *:
    """
    /* The getter of a flag. By name, it takes 30 ns: a socket of pyzmq has a `__getattr__`. */
    typedef struct { getter get; void *closure; } flag_getter;

    static flag_getter find_getter(PyObject *descriptor) {
        flag_getter found = {NULL, NULL};
        if (Py_IS_TYPE(descriptor, &PyGetSetDescr_Type)) {
            found.get = ((PyGetSetDescrObject *) descriptor)->d_getset->get;
            found.closure = ((PyGetSetDescrObject *) descriptor)->d_getset->closure;
        }
        return found;
    }

    static int has_flag(PyObject *socket, flag_getter flag) {
        PyObject *value = flag.get(socket, flag.closure);
        int is_set = value == NULL ? -1 : value == Py_True;
        Py_XDECREF(value);
        return is_set;
    }
    """
    ctypedef struct flag_getter:
        void *get
    flag_getter find_getter(object descriptor)
    bint has_flag(object socket, flag_getter flag) except -1

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyThreadState_Get()
    # Unlike a thread's identifier, this is never used again.
    unsigned long long PyThreadState_GetID(PyThreadState *)


cdef union zmq_msg_t:
    # zmq.h: 64 opaque bytes, aligned as a pointer is.
    unsigned char opaque[64]
    void *aligned

ctypedef int (*msg_function)(zmq_msg_t *) noexcept nogil
ctypedef int (*msg_copy_function)(zmq_msg_t *, zmq_msg_t *) noexcept nogil
ctypedef int (*msg_init_size_function)(zmq_msg_t *, size_t) noexcept nogil
ctypedef int (*msg_transfer_function)(zmq_msg_t *, void *, int) noexcept nogil
ctypedef char *(*msg_data_function)(zmq_msg_t *) noexcept nogil
ctypedef size_t (*msg_size_function)(zmq_msg_t *) noexcept nogil
ctypedef int (*send_function)(void *, const void *, size_t, int) noexcept nogil
ctypedef int (*getsockopt_function)(void *, int, void *, size_t *) noexcept nogil
ctypedef int (*errno_function)() noexcept nogil

_libzmq = ctypes.CDLL(_pyzmq.__file__)


cdef size_t address_of(str name) except 0:
    return ctypes.cast(getattr(_libzmq, name), ctypes.c_void_p).value


cdef msg_function msg_init = <msg_function>address_of("zmq_msg_init")
cdef msg_function msg_close = <msg_function>address_of("zmq_msg_close")
cdef msg_function msg_more = <msg_function>address_of("zmq_msg_more")
cdef msg_transfer_function msg_recv = <msg_transfer_function>address_of("zmq_msg_recv")
cdef msg_transfer_function msg_send = <msg_transfer_function>address_of("zmq_msg_send")
cdef msg_copy_function msg_copy = <msg_copy_function>address_of("zmq_msg_copy")
cdef msg_init_size_function msg_init_size = (
    <msg_init_size_function>address_of("zmq_msg_init_size")
)
cdef void *msg_init_data = <void *>address_of("zmq_msg_init_data")
cdef msg_data_function msg_data = <msg_data_function>address_of("zmq_msg_data")
cdef msg_size_function msg_size = <msg_size_function>address_of("zmq_msg_size")
cdef send_function zmq_send = <send_function>address_of("zmq_send")
cdef getsockopt_function zmq_getsockopt = <getsockopt_function>address_of("zmq_getsockopt")
cdef errno_function zmq_errno = <errno_function>address_of("zmq_errno")


cdef Py_ssize_t find_message_in_frame() except -1:
    """Return where a `zmq.Frame` has its ``zmq_msg_t``: a short message is in there itself."""
    cdef zmq_msg_t part
    cdef Py_buffer view
    cdef Py_ssize_t offset
    cdef Py_ssize_t last = Frame.__basicsize__ - sizeof(zmq_msg_t)
    frame = Frame(b"x")
    if msg_init_size(&part, 1) < 0:
        raise MemoryError
    PyObject_GetBuffer(frame, &view, PyBUF_ANY_CONTIGUOUS)
    offset = (<char *>view.buf - <char *><void *>frame) - (msg_data(&part) - <char *>&part)
    PyBuffer_Release(&view)
    msg_close(&part)
    if not <Py_ssize_t>sizeof(PyObject) <= offset <= last:
        raise ImportError("a zmq.Frame has no zmq_msg_t that can be found")
    return offset


cdef Py_ssize_t message_in_frame = find_message_in_frame()


cdef flag_getter closed_flag = find_getter(BackendSocket._closed)
if closed_flag.get == NULL:
    raise ImportError("a zmq.Socket has no flag that tells whether it was closed")
