"""All sources that live, and who watches them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gzmqsource._source.core import Core

#: By their ids: the list of its references is made in one step, also for another thread.
live: weakref.WeakValueDictionary[int, Core] = weakref.WeakValueDictionary()


class Observer(Protocol):
    """Who watches the sources of this process."""

    def instrument(self, core: Core, handle: Callable[[Any], object]) -> Callable[[Any], object]:
        """Give what is called in place of a handler, for each of its messages."""

    def closed(self, core: Core) -> None:
        """Take note that a source is about to close; from now on its state says so."""


#: At most one; nothing is done for none.
observer: Observer | None = None


def instrumented(core: Core, handle: Callable[[Any], object]) -> Callable[[Any], object]:
    """Give what is to be called for each message: the handler itself, if nobody watches."""
    return handle if observer is None else observer.instrument(core, handle)


def closed(core: Core) -> None:
    """Tell who watches that a source is about to close."""
    if observer is not None:
        observer.closed(core)
