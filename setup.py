"""Build script; what is declared is in setup.cfg.

The extension is optional: without a compiler the install succeeds, and the transfer in Python
serves. With ``GZMQSOURCE_REQUIRE_NATIVE=1`` in the environment it fails.
"""

import glob
import os
import pathlib

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

REQUIRED = os.environ.get("GZMQSOURCE_REQUIRE_NATIVE", "0") not in ("", "0")


class BuildExtension(build_ext):
    """Leaves no extension of an earlier build, and says what one needs that must not fail."""

    def run(self):
        """Build, or exit with what is missing if it is required."""
        try:
            super().run()
        except Exception as error:
            if not REQUIRED:
                raise
            raise SystemExit(
                f"GZMQSOURCE_REQUIRE_NATIVE=1, and the native transfer cannot be built: {error}\n"
                "It needs a C compiler, Python's headers (python3-dev), and Cython 3."
            ) from error

    def build_extension(self, ext):
        """Build one that says its version; if that fails, the folder of the wheel has none."""
        version = f'"{self.distribution.get_version()}"'
        ext.define_macros.append(("GZMQSOURCE_VERSION", version))
        try:
            super().build_extension(ext)
        except Exception:
            self.remove(ext)
            raise

    def copy_extensions_to_source(self):
        """Put into the checkout what was built, or nothing."""
        for ext in self.extensions:
            self.remove(ext)
        super().copy_extensions_to_source()

    def remove(self, ext):
        """Remove what an earlier build left where this one goes."""
        pathlib.Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)


setup(
    cmdclass={"build_ext": BuildExtension},
    ext_modules=[
        Extension(
            f"gzmqsource.{folder}.native",
            [f"gzmqsource/{folder}/native.pyx"],
            # The version is in the package's own file.
            depends=[*glob.glob(f"gzmqsource/{folder}/*.pxi"), "gzmqsource/__init__.py"],
            optional=not REQUIRED,
        )
        for folder in ("transfer", "workers")
    ],
)
