"""The one fork hook: a forked child abandons what belongs to its parent.

The child inherits the parent's greenlets, but must not run them: their ``finally`` blocks and their
replies are the parent's. So no `Inherited.abandon` wakes a greenlet, calls the user's code, or
depends on another `abandon`, and their order does not matter.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """An object that a forked child inherits and must not use."""

    def abandon(self) -> None:
        """Stop using what belongs to the parent process, without waking any greenlet."""


#: How many forks lie between this process and the first one that imported this module.
generation = 0

_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()


def abandon_in_child(inherited: Inherited) -> None:
    """Have a forked child call ``inherited.abandon()``, if *inherited* is still alive then."""
    _inherited.add(inherited)


def _abandon_all() -> None:
    global generation, _inherited
    generation += 1
    inherited, _inherited = _inherited, weakref.WeakSet()
    for each in list(inherited):
        each.abandon()


os.register_at_fork(after_in_child=_abandon_all)
