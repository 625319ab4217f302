"""Forgotten sources: those whose messages are not read, and those that get none.

A source whose handler was not started, that was not pulled, or that may lack a topic is checked a
few seconds after it was made, and then again after longer and longer times. One timer of a hub
serves all its sources, runs only while one is checked, and does not keep the loop running.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

import zmq
from gevent.hub import get_hub

from gzmqsource._base.warning import LimitedWarning
from gzmqsource._socket.linger import RECEIVES_NOTHING
from gzmqsource._source.core import Core, State
from gzmqsource._source.puller import Puller
from gzmqsource._source.refusals import HOW_TO_SUBSCRIBE, has_topics

#: Seconds until the first check, the factor by which each further wait grows, and the longest wait.
FIRST, FACTOR, LAST = 2.0, 5.0, 300.0

_log = logging.getLogger("gzmqsource.source")

_HEARS_NOTHING = LimitedWarning(
    _log, f"%s gets nothing, for it subscribes to nothing: {HOW_TO_SUBSCRIBE}"
)
_NOT_STARTED = LimitedWarning(
    _log, "%s has messages, and its handler is not called: call start() or serve_forever()"
)
_NOT_PULLED = LimitedWarning(
    _log, "%s has messages that nothing takes: call recv(), or open it with a handler and start it"
)

#: By the hub. libuv crashes if a timer is collected while it is active.
_patrols: weakref.WeakKeyDictionary[Any, _Patrol] = weakref.WeakKeyDictionary()


def watch(core: Core, puller: Puller) -> None:
    """Check a new source of this hub until it is in use, and report it if it was forgotten."""
    if core.kind not in RECEIVES_NOTHING:
        hub = get_hub()
        patrol = _patrols.get(hub)
        if patrol is None:
            patrol = _patrols[hub] = _Patrol()
        patrol.add(core, puller)


def complaint(core: Core, puller: Puller) -> LimitedWarning | None:
    """Return the warning that applies to a source, or None.

    An XPUB gets messages about its subscribers, and may leave them unread.
    """
    if core.started and has_topics(core) is False:
        return _HEARS_NOTHING
    if core.state is State.OPEN and core.socket.is_readable():
        return _NOT_STARTED
    if core.serves or puller.was_used or core.kind == zmq.XPUB or not core.socket.is_readable():
        return None
    return _NOT_PULLED


def is_in_use(core: Core, puller: Puller) -> bool:
    """Return whether a source does not have to be checked any more."""
    if core.closed or core.socket.transfer.received:
        return True
    if has_topics(core) is False:
        return False
    return puller.was_used or (core.serves and core.started)


class _Patrol:
    """The sources of one hub that are checked."""

    def __init__(self) -> None:
        self._sources: weakref.WeakKeyDictionary[Core, weakref.ref[Puller]] = (
            weakref.WeakKeyDictionary()
        )
        self._delay = FIRST
        self._timer: Any = None

    def add(self, core: Core, puller: Puller) -> None:
        self._sources[core] = weakref.ref(puller)
        if self._timer is not None and self._delay > FIRST:
            self._timer.close()
            self._timer = None
        if self._timer is None:
            self._delay = FIRST
            self._start()

    def _start(self) -> None:
        self._timer = get_hub().loop.timer(self._delay, ref=False)
        self._timer.start(self._look)

    def _look(self) -> None:
        self._timer.close()
        self._timer = None
        for core, of_core in list(self._sources.items()):
            puller = of_core()
            if puller is None or is_in_use(core, puller):
                del self._sources[core]
            elif warn := complaint(core, puller):
                del self._sources[core]
                warn(core)
        self._delay *= FACTOR
        if self._sources and self._delay <= LAST:
            self._start()
        else:
            self._sources.clear()
