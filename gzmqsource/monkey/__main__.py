"""``python -m gzmqsource.monkey [gevent's options] script.py args``: run a program patched.

The options are those of ``python -m gevent.monkey``, and mean the same. With
``GZMQSOURCE_PATCH=green`` in the environment, only `zmq.green` is patched.
"""

from __future__ import annotations

from typing import Any

import gevent.events
import gevent.monkey

from gzmqsource.monkey import _wanted_by_environment, patch_zmq, patch_zmq_green


def _follow(event: Any) -> None:
    if isinstance(event, gevent.events.GeventDidPatchBuiltinModulesEvent):
        if _wanted_by_environment() == "green":
            patch_zmq_green()
        else:
            patch_zmq()


gevent.events.subscribers.append(_follow)
gevent.monkey.main()
