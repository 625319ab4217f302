"""Contexts that share one libzmq context: the original, which made it, and its shadows."""

from __future__ import annotations

import gc
import weakref
from typing import Any, TypeVar

from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

_SocketT = TypeVar("_SocketT", bound=PlainSocket[Any], covariant=True)


class ShadowedContext(PlainContext[_SocketT]):
    """A `zmq.Context` that lives as long as its shadows, and is closed together with them.

    pyzmq keeps the original of ``Context(shadow=context)``, but does not know the original of
    ``Context.shadow(context.underlying)``. A program that puts such a shadow in the place of
    ``Context._instance`` would drop the original, which destroys the libzmq context of both.
    """

    #: Declared on the class because pyzmq treats any other attribute as a context option.
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
        # libzmq may give the address of a closed context to a plain one.
        if original is not None and not original.closed and original._shadows is not None:
            self._original = original
            original._shadows.add(self)
        elif isinstance(self._shadow_obj, int):
            # As pyzmq keeps the original of a shadow that was made from an object.
            self._shadow_obj = _find_plain(address)

    def term(self) -> None:
        """Terminate the libzmq context, and close all objects that stand for it."""
        if self._has_ended:
            self.closed = True  # libzmq's context is freed memory
        super().term()
        # pyzmq would have libzmq terminate it again, in memory that is already freed.
        for shadow in list(self._shadows or ()):
            shadow.closed = True
        if isinstance(self._shadow_obj, PlainContext):
            self._shadow_obj.closed = True

    @property
    def _has_ended(self) -> bool:
        """Whether this is the shadow of a context that was terminated."""
        held = self._original or self._shadow_obj
        return isinstance(held, PlainContext) and bool(held.closed)


def _find_plain(address: int) -> PlainContext[Any] | None:
    """Return the plain context that has made a libzmq context; it is searched for once."""
    known = _plains.get(address)
    if known is not None and not known.closed:
        return known
    for found in gc.get_objects():
        if issubclass(type(found), PlainContext) and not found._shadow and not found.closed:
            plain: PlainContext[Any] = found
            if plain.underlying == address:
                _plains[address] = plain
                return plain
    return None


#: The contexts that have made a libzmq context, by its address.
_originals: weakref.WeakValueDictionary[int, ShadowedContext[Any]] = weakref.WeakValueDictionary()
#: The plain ones of those that were found.
_plains: weakref.WeakValueDictionary[int, PlainContext[Any]] = weakref.WeakValueDictionary()
