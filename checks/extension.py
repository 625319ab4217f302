"""Whether the built extension is that of its sources as they are: run by make after each build.

An extension that cannot be built is left out, for the transfer in Python can do without. One that
was built before would then be tested in its place, so this is an error.
"""

import pathlib
import sys
import sysconfig

FOLDER = pathlib.Path(__file__).parent.parent / "gzmqsource" / "transfer"


def main():
    built = FOLDER / f"native{sysconfig.get_config_var('EXT_SUFFIX')}"
    newest = max(each.stat().st_mtime for each in (*FOLDER.glob("*.pyx"), *FOLDER.glob("*.pxi")))
    if not built.exists():
        print("the extension could not be built: the transfer in Python is used")
        return 0
    if built.stat().st_mtime < newest:
        print(f"{built.name} is older than its sources, which do not build; make clean removes it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
