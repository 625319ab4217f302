"""What each Python process of the tests begins with: it reads the installed packages once.

gevent asks for its plugins 25 times while it patches, and each time the entry points of all
packages are read. The tests' environment has 180: that is 0.5 s of each program that patches.
"""

import sys
from importlib.machinery import PathFinder, SourceFileLoader


class Finder:
    """Finds `importlib.metadata`, for a process that imports it, and has it remember its answer."""

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
        super().exec_module(module)
        module.entry_points = remembering(module.entry_points)


def remembering(entry_points):
    """Return the function, which reads the packages once for each path that they are found on."""
    known = {}

    def remembered(**wanted):
        path = tuple(sys.path)
        if path not in known:
            known[path] = entry_points()
        return known[path].select(**wanted) if wanted else known[path]

    return remembered


sys.meta_path.insert(0, Finder)
