"""Whether everything is small enough to be read at one go: ``make lint``.

The exit status is 1 if a file, a function or the root of the package is too large.
"""

import ast
import pathlib
import sys

PROJECT = pathlib.Path(__file__).parent.parent
PACKAGE = PROJECT / "gzmqsource"

#: Lines of a file, of the package or of the suite.
FILE = 450

#: Lines of a function, with its docstring and without its decorators.
FUNCTION = 60

#: Modules, folders and other files in the root of the package.
ROOT = 16

#: What Python and type checkers look for there by name, which is not counted.
MARKERS = {"__init__.py", "__main__.py", "py.typed"}

#: What is counted.
SOURCES = {".py", ".pyi", ".pyx", ".pxi"}

#: What a build or an import leaves, which is not counted.
BUILT = {".so", ".c", ".pyc"}


def sources(folder):
    """Yield the Python and Cython files below a folder."""
    yield from sorted(path for path in folder.rglob("*") if path.suffix in SOURCES)


def too_long_files():
    for path in (*sources(PACKAGE), *sources(PROJECT / "tests")):
        lines = len(path.read_text().splitlines())
        if lines > FILE:
            yield f"{path.relative_to(PROJECT)}: {lines} lines, at most {FILE} are allowed"


def too_long_functions():
    for path in sources(PACKAGE):
        if path.suffix in (".pyx", ".pxi"):  # which only Cython can parse
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None  # as `ast.parse` sets it
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION:
                    where = f"{path.relative_to(PROJECT)}:{node.lineno}"
                    yield f"{where}: {node.name} has {lines} lines, at most {FUNCTION} are allowed"


def too_full_root():
    entries = [
        path.name
        for path in PACKAGE.iterdir()
        if path.suffix not in BUILT and path.name not in {"__pycache__", *MARKERS}
    ]
    if len(entries) > ROOT:
        yield f"gzmqsource/: {len(entries)} entries, at most {ROOT} are allowed"


def main():
    too_large = [*too_long_files(), *too_long_functions(), *too_full_root()]
    print("\n".join(too_large) or "no file, function or folder is too large")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
