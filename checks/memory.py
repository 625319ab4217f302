"""What this process has of the memory."""

import ctypes
import pathlib
import resource


class _Mallinfo(ctypes.Structure):
    """What mallinfo2(3) returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


_mallinfo = ctypes.CDLL(None).mallinfo2
_mallinfo.restype = _Mallinfo


def in_use():
    """Return the bytes that malloc has given out; Python's too, with PYTHONMALLOC=malloc.

    They grow with each object that is not freed, and with nothing else.
    """
    info = _mallinfo()
    return info.uordblks + info.hblkhd


def held():
    """Return the bytes that the kernel has given.

    malloc takes them in steps of some MB, which then take in a leak for minutes without growing.
    """
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()
