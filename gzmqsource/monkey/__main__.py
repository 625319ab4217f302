"""``python -m gzmqsource.monkey [gevent's options] script.py args``: run a program patched.

The options are those of ``python -m gevent.monkey``, and mean the same. With
``GZMQSOURCE_PATCH=green`` in the environment, only `zmq.green` is patched.
"""

from __future__ import annotations

import inspect
import os
import sys
import textwrap
from importlib.util import find_spec
from itertools import takewhile
from typing import Any, NoReturn

import gevent.events
import gevent.monkey

from gzmqsource.monkey import _wanted_by_environment, patch_zmq, patch_zmq_green


def _follow(event: Any) -> None:
    if isinstance(event, gevent.events.GeventDidPatchBuiltinModulesEvent):
        if _wanted_by_environment() == "green":
            patch_zmq_green()
        else:
            patch_zmq()


_USAGE = """\
usage: python -m gzmqsource.monkey [OPTION]... SCRIPT [ARGUMENT]...
       python -m gzmqsource.monkey [OPTION]... --module MODULE [ARGUMENT]...

Patch the standard library and zmq, and run an unchanged program.

  --module       run a module or a package, as python -m does
  --NAME         patch only this and other named parts of the standard library
  --no-NAME      patch all but this
  --verbose      report what is patched

A NAME is one of:
  {names}

With GZMQSOURCE_PATCH=green in the environment, zmq.green is patched, not zmq."""


def _check(arguments: list[str]) -> None:
    """Show how to use this, in place of gevent's own text, unless there is a program to run."""
    parts = [
        name
        for name, each in inspect.signature(gevent.monkey.patch_all).parameters.items()
        if each.kind is not each.VAR_KEYWORD
    ]
    options = [*takewhile(lambda each: each.startswith("-"), arguments)]
    usage = _USAGE.format(names=textwrap.fill(", ".join(parts), 76, subsequent_indent="  "))
    if not {"-h", "--help"}.isdisjoint(options):
        print(usage)
        raise SystemExit(0)
    try:
        _wanted_by_environment()
    except ValueError as error:
        _refuse(str(error))
    known = {
        "--verbose",
        "--module",
        *(f"--{prefix}{name}" for name in parts for prefix in ("", "no-")),
    }
    wrong = [each for each in options if each not in known]
    if wrong:
        _refuse(f"there is no option {wrong[0]}\n\n{usage}")
    if len(options) == len(arguments):
        _refuse(f"there is no SCRIPT to run\n\n{usage}")
    script = arguments[len(options)]
    if "--module" not in options:
        if not os.path.exists(script):
            _refuse(f"there is no file {script}: a module needs --module")
        return
    # Not the submodule, for which its package would be imported before anything is patched.
    top = script.partition(".")[0]
    if not top or find_spec(top) is None:
        _refuse(f"there is no module {script}", status=1)  # as that of python -m


def _refuse(text: str, status: int = 2) -> NoReturn:
    print(f"gzmqsource.monkey: {text}", file=sys.stderr)
    raise SystemExit(status)


_check(sys.argv[1:])
gevent.events.subscribers.append(_follow)
gevent.monkey.main()
