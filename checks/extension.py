"""Whether the built extensions are those of their sources: run by make after each build.

An extension that cannot be built is left out, for Python can do without. One that was built before
would then be tested in its place, so this is an error.
"""

import pathlib
import sys
import sysconfig

PACKAGE = pathlib.Path(__file__).parent.parent / "gzmqsource"


def main():
    status = 0
    for source in PACKAGE.glob("*/native.pyx"):
        built = source.with_name(f"native{sysconfig.get_config_var('EXT_SUFFIX')}")
        name = built.relative_to(PACKAGE.parent)
        newest = max(each.stat().st_mtime for each in (source, *source.parent.glob("*.pxi")))
        if not built.exists():
            print(f"{name} could not be built: Python is used in its place")
        elif built.stat().st_mtime < newest:
            print(f"{name} is older than its sources, which do not build; make clean removes it")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
