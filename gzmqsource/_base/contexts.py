"""The context variables that handlers begin with: those of the code that starts their source."""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import Any

#: Variables about the message that a handler works on. The handlers of a source that is started in
#: one work on others.
of_one_message: list[ContextVar[Any]] = []


def base_context() -> Context:
    """Return a copy of the current context, without what is about one message: None."""
    base = copy_context()
    for variable in of_one_message:
        if base.get(variable) is not None:
            base.run(variable.set, None)
    return base
