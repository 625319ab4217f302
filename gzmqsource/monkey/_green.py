"""The drop-in in place of `zmq.green`, and of eventlet's module of the same kind."""

from __future__ import annotations

import importlib
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

from gzmqsource import green

_EVENTLET = "eventlet.green.zmq"


class _EventletFinder:
    """Finds the drop-in where a program imports eventlet's, without an import of eventlet now."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == _EVENTLET else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        names = (name for name in vars(green) if not name.startswith("__"))
        vars(module).update({name: vars(green)[name] for name in names})


_finder = _EventletFinder()


def replace_green_modules() -> list[tuple[Any, Any]]:
    """Put the drop-in into the modules; return the classes that were there, with the new ones.

    The modules stay, because a program may have imported them before.
    """
    modules = [importlib.import_module("zmq.green")]
    for name in ("core", "poll", "device"):
        importlib.import_module(f"zmq.green.{name}")
    if _EVENTLET in sys.modules:
        modules.append(sys.modules[_EVENTLET])
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    pairs = []
    for module in modules:
        for name, new in green.REPLACED.items():
            old = vars(module).get(name)
            if str(getattr(old, "__module__", "")).startswith(module.__name__):
                pairs.append((old, new))
        vars(module).update(green.REPLACED)
    return pairs
