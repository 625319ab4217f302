"""Contexts that share one libzmq context: the original, which made it, and its shadows."""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

import zmq
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

_SocketT = TypeVar("_SocketT", bound=PlainSocket[Any], covariant=True)


class ShadowedContext(PlainContext[_SocketT]):
    """A `zmq.Context` that lives as long as its shadows, and is closed together with them.

    pyzmq keeps the original of ``Context(shadow=context)``, but knows nothing of the original of
    ``Context.shadow(context.underlying)``. A program that puts such a shadow in the place of
    ``Context._instance`` would drop the original, which destroys the libzmq context of both.
    """

    #: Declared on the class because pyzmq takes any other attribute for a context option.
    _original: ShadowedContext[Any] | None = None
    _shadows: weakref.WeakSet[ShadowedContext[Any]] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        address = self.underlying
        if not self._shadow:
            self._shadows = weakref.WeakSet()
            _originals[address] = self
            return
        original = _originals.get(address)
        # libzmq may give the address of one that is closed to a plain context.
        if original is not None and not original.closed and original._shadows is not None:
            self._original = original
            original._shadows.add(self)

    def socket(self, *args: Any, **kwargs: Any) -> Any:
        """Make a socket; see `zmq.Context.socket`."""
        if self._original is not None and self._original.closed:
            raise zmq.ZMQError(zmq.EFAULT)  # as libzmq does, which would look into freed memory
        return super().socket(*args, **kwargs)

    def term(self) -> None:
        """Terminate the libzmq context, and close all that stand for it."""
        super().term()
        # pyzmq would have libzmq terminate it again, in memory that is free by then.
        for shadow in list(self._shadows or ()):
            shadow.closed = True
        if isinstance(self._shadow_obj, PlainContext):
            self._shadow_obj.closed = True


#: The contexts that have made a libzmq context, by its address.
_originals: weakref.WeakValueDictionary[int, ShadowedContext[Any]] = weakref.WeakValueDictionary()
