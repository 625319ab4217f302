"""Whether the last reload of something, as after SIGHUP, has failed: for ``doctor``."""

from __future__ import annotations

#: By what was reloaded: the handler's ``code``, or the ``keys`` of clients. Empty until a SIGHUP.
failed: dict[str, bool] = {}
