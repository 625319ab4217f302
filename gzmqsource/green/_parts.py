"""The conversion of a caller's frame into the form that is sent, with pyzmq's errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zmq

from gzmqsource._base.lent import keep_lent_at_exit
from gzmqsource.green._outgoing import Part
from gzmqsource.green._tracker import cooperative


def as_part(
    data: Any, copy: bool, track: bool, copy_threshold: int
) -> tuple[Part, zmq.MessageTracker | None]:
    """Check one frame; return the frame to send, and the result of `zmq.Socket.send` for it.

    Parameters
    ----------
    data
        A bytes-like object or a `zmq.Frame`.
    copy, track, copy_threshold
        As for `zmq.Socket`.

    Raises
    ------
    TypeError, BufferError
        It is not a contiguous buffer.
    ValueError
        *track* is set, and *data* is a frame that is not tracked.
    """
    if isinstance(data, zmq.Frame):
        keep_lent_at_exit()
        if track and not data.tracker:
            raise ValueError("Not a tracked message")
        return data, cooperative(data.tracker)
    if type(data) is bytes and not track:
        return data, untracked(data, copy, copy_threshold)
    if isinstance(data, str):
        raise TypeError("unicode not allowed, use send_string")
    view = memoryview(data)
    if not view.contiguous:
        raise BufferError("memoryview: underlying buffer is not contiguous")
    if not copy and view.nbytes >= copy_threshold:
        if not track:
            return view, None
        # Only here pyzmq's store of lent frames and its thread are used.
        frame = zmq.Frame(data, track=True, copy=False)
        keep_lent_at_exit()
        return frame, cooperative(frame.tracker)
    # In the order of memory, as libzmq would read it.
    return view.tobytes("A"), untracked(view, copy, copy_threshold)


def untracked(last: Any, copy: bool, copy_threshold: int) -> zmq.MessageTracker | None:
    """Return pyzmq's result for the last frame of a message if that is not tracked."""
    return None if copy or len(last) >= copy_threshold else zmq._FINISHED_TRACKER


def check_parts(parts: Iterable[Any]) -> None:
    """Raise pyzmq's `TypeError` if one of several frames is not a buffer."""
    for index, part in enumerate(parts):
        if not isinstance(part, (zmq.Frame, bytes, memoryview)):
            try:
                memoryview(part)
            except (TypeError, ValueError, BufferError):  # as of a closed mmap
                text = repr(part)
                text = text if len(text) <= 32 else text[:32] + "..."
                raise TypeError(
                    f"Frame {index} ({text}) does not support the buffer interface."
                ) from None
