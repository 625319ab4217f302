"""``python -m gzmqsource.monkey [gevent's options] script.py args``: run a program patched.

The options are those of ``python -m gevent.monkey``, and mean the same.
"""

from __future__ import annotations

from typing import Any

import gevent.events
import gevent.monkey

from gzmqsource.monkey import patch_zmq


def _follow(event: Any) -> None:
    if isinstance(event, gevent.events.GeventDidPatchBuiltinModulesEvent):
        patch_zmq()


gevent.events.subscribers.append(_follow)
gevent.monkey.main()
