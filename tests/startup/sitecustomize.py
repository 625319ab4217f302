"""What each Python process of the tests begins with: it finds gevent's plugins in little time.

gevent asks for its plugins 25 times while it patches. Each time `importlib.metadata` reads the
entry points of all packages, of which the tests' environment has 180: that is 0.5 s of each program
that patches. To import that module, and to read them once, takes 30 ms, and most of these programs
want nothing else of it. So its code runs when something else is wanted.
"""

import contextlib
import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder, SourceFileLoader
from types import ModuleType

#: Groups of gevent's plugins begin with it.
GEVENT = "gevent.plugins."


class Finder:
    """Finds `importlib.metadata`, for a process that imports it."""

    @classmethod
    def find_spec(cls, name, path, target=None):
        if name != "importlib.metadata":
            return None
        sys.meta_path.remove(cls)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(name, spec.loader.path)
        return spec


class Loader(SourceFileLoader):
    def exec_module(self, module):
        module.__class__ = Metadata
        module.loader = self
        module.entry_points = EntryPoints(module).select

    def run(self, module):
        """Run the code; the function stays that is in the place of `entry_points`."""
        placed = module.entry_points
        module.__class__ = ModuleType
        super().exec_module(module)
        module.whole, module.entry_points = module.entry_points, placed


class Metadata(ModuleType):
    """The module, until its code has run."""

    loader: Loader

    def __getattr__(self, name):
        self.loader.run(self)
        return getattr(self, name)


class EntryPoints:
    """What is installed; it is read once for each path that it is found on."""

    def __init__(self, module):
        self._module = module
        self._plugins = {}
        self._others = {}

    def select(self, **wanted):
        """Be `importlib.metadata.entry_points`."""
        group = wanted.get("group", "")
        if not group.startswith(GEVENT) or len(wanted) > 1:
            return self._all().select(**wanted) if wanted else self
        path = tuple(sys.path)
        if path not in self._plugins:
            self._plugins[path] = [*plugins(path)]
        return [each for each in self._plugins[path] if each.group == group]

    def __iter__(self):
        return iter(self._all())

    def __getattr__(self, name):
        return getattr(self._all(), name)

    def _all(self):
        module, path = self._module, tuple(sys.path)
        if isinstance(module, Metadata):
            module.loader.run(module)
        if path not in self._others:
            self._others[path] = module.whole()
        return self._others[path]


class Plugin:
    """An entry point of one of gevent's groups."""

    def __init__(self, group, line):
        self.group = group
        self.name, self.value = map(str.strip, line.split("="))

    def load(self):
        module, _, name = self.value.partition(":")
        return getattr(import_module(module), name)


def plugins(path):
    """Yield gevent's plugins of the packages in some folders; the first of each name counts."""
    seen = set()
    for folder in [each or "." for each in path]:
        names = []
        with contextlib.suppress(OSError):  # a file, for example, or none
            names = os.listdir(folder)
        for name in names:
            package = name.partition("-")[0]
            if not name.endswith((".dist-info", ".egg-info")) or package in seen:
                continue
            seen.add(package)
            with (
                contextlib.suppress(OSError),
                open(f"{folder}/{name}/entry_points.txt", encoding="utf-8") as file,
            ):
                text = file.read()
                if GEVENT in text:
                    yield from in_file(text)


def in_file(text):
    """Yield the plugins in the text of an ``entry_points.txt``."""
    group = ""
    for line in text.splitlines():
        if line.startswith("["):
            group = line.strip("[] ")
        elif "=" in line and group.startswith(GEVENT):
            yield Plugin(group, line)


sys.meta_path.insert(0, Finder)
