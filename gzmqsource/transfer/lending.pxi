# Large frames, which are lent to libzmq, and given back on threads of its own.
#
# These threads never wait for the GIL, and touch nothing of Python: libzmq may still send when the
# interpreter has ended. They put a frame on a stack without a lock, and wake the collector. That is
# a native thread, because the main thread may be blocked in a lock or in a C call for any time.

import atexit

from gevent.monkey import get_original

from gzmqsource._base.fork import abandon_in_child

cdef extern from *:
    """
    #include <pythread.h>
    #include <time.h>
    #include <unistd.h>

    typedef int (*zmq_init_data)(void *, void *, size_t, void (*)(void *, void *), void *);

    typedef struct lent_frame {
        struct lent_frame *next;
        Py_buffer view;
    } lent_frame;

    static lent_frame *returned_frames = NULL;

    /* Acquired by the collector, and released for it: its calls need no interpreter. It is locked
       unless the bell was rung: releasing an unlocked one aborts from CPython 3.15 on. */
    static PyThread_type_lock collector_bell = NULL;
    static int bell_was_rung = 0;

    static int interpreter_ends = 0;

    /* How long the collector waits for more, in nanoseconds: a look each 10 ms costs nothing. A send
       meanwhile takes back the frames that were returned before. */
    #define COLLECTOR_PAUSE 10000000

    static void let_go_of_returned(void) {
        if (!__atomic_load_n(&returned_frames, __ATOMIC_RELAXED))
            return;
        lent_frame *lent = __atomic_exchange_n(&returned_frames, NULL, __ATOMIC_ACQUIRE);
        while (lent) {
            lent_frame *next = lent->next;
            PyBuffer_Release(&lent->view);
            PyMem_RawFree(lent);
            lent = next;
        }
    }

    static void give_back(void *data, void *hint) {
        lent_frame *lent = hint;
        lent_frame *top = __atomic_load_n(&returned_frames, __ATOMIC_RELAXED);
        do {
            lent->next = top;
        } while (!__atomic_compare_exchange_n(
            &returned_frames, &top, lent, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
        if (!top && !__atomic_exchange_n(&bell_was_rung, 1, __ATOMIC_ACQ_REL))
            PyThread_release_lock(collector_bell);
    }

    static int make_collector_bell(void) {
        collector_bell = PyThread_allocate_lock();
        if (!collector_bell) {
            PyErr_NoMemory();
            return -1;
        }
        PyThread_acquire_lock(collector_bell, 1);
        __atomic_store_n(&bell_was_rung, 0, __ATOMIC_RELEASE);
        return 0;
    }

    /* Wait without the GIL. It never returns to an interpreter that ends. */
    static void wait_for_returned(void) {
        struct timespec pause = {0, COLLECTOR_PAUSE};
        PyThread_acquire_lock(collector_bell, 1);
        __atomic_exchange_n(&bell_was_rung, 0, __ATOMIC_ACQ_REL);  /* before it takes the stack */
        nanosleep(&pause, NULL);
        while (__atomic_load_n(&interpreter_ends, __ATOMIC_ACQUIRE))
            sleep(1000);
    }

    static void note_interpreter_ends(void) {
        __atomic_store_n(&interpreter_ends, 1, __ATOMIC_RELEASE);
    }

    static int lend(zmq_init_data init_data, void *part, PyObject *frame) {
        lent_frame *lent = PyMem_RawMalloc(sizeof *lent);
        if (!lent) {
            PyErr_NoMemory();
            return -1;
        }
        if (PyObject_GetBuffer(frame, &lent->view, PyBUF_ANY_CONTIGUOUS) < 0) {
            PyMem_RawFree(lent);
            return -1;
        }
        if (init_data(part, lent->view.buf, lent->view.len, give_back, lent) < 0) {
            PyBuffer_Release(&lent->view);
            PyMem_RawFree(lent);
            PyErr_NoMemory();
            return -1;
        }
        return 0;
    }
    """
    int lend(void *init_data, void *part, object frame) except -1
    void let_go_of_returned() noexcept
    int make_collector_bell() except -1
    void wait_for_returned() noexcept nogil
    void note_interpreter_ends() noexcept

make_collector_bell()
_start_thread = get_original("_thread", "start_new_thread")


cdef class Collector:
    """The thread that takes back the frames that libzmq returns; the first lending starts it."""

    cdef bint runs
    cdef object __weakref__

    def __init__(self):
        atexit.register(self.end)

    cdef int ensure(self) except -1:
        """Start the thread; without it, the next lending takes back the returned frames."""
        if not self.runs:
            abandon_in_child(self)
            try:
                _start_thread(self.run, ())
            except RuntimeError:  # no thread can be started now
                return 0
            self.runs = True
        return 0

    def run(self):
        """Take back the frames that are returned, for as long as the interpreter runs."""
        while True:
            with nogil:
                wait_for_returned()
            let_go_of_returned()

    def end(self):
        """Leave the frames that are still lent to the end of the process."""
        note_interpreter_ends()

    def abandon(self):
        """Note that a forked child has no such thread; the old bell may be ringing right now."""
        self.runs = False
        make_collector_bell()


cdef Collector collector = Collector()
