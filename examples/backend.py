"""A handler for ``gzmqsource serve``, which the web examples ask.

Run::

    gzmqsource serve backend:double --bind tcp://127.0.0.1:5557
"""

from __future__ import annotations

import time


def double(request: list[bytes]) -> bytes:
    """Return twice the number, after a tenth of a second, as a database would take."""
    time.sleep(0.1)
    return b"%d" % (2 * int(request[0]))
