"""Whether the built extension is that of the source as it is: run by make after each build.

An extension that cannot be built is left out, for the transfer in Python can do without. One that
was built before would then be tested in its place, so this is an error.
"""

import pathlib
import sys
import sysconfig

SOURCE = pathlib.Path(__file__).parent.parent / "gzmqsource" / "transfer" / "native.pyx"


def main():
    built = SOURCE.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
    if not built.exists():
        print("the extension could not be built: the transfer in Python is used")
        return 0
    if built.stat().st_mtime < SOURCE.stat().st_mtime:
        print(f"{SOURCE.name} does not build, and {built.name} is older: make clean removes it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
