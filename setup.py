"""Build script; what is declared is in setup.cfg.

The extension is optional: without a compiler the install succeeds, and the transfer in Python
serves. With ``GZMQSOURCE_REQUIRE_NATIVE=1`` in the environment it fails.
"""

import glob
import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

REQUIRED = os.environ.get("GZMQSOURCE_REQUIRE_NATIVE", "0") not in ("", "0")


class BuildExtension(build_ext):
    """Says what a build needs that must not fail and does."""

    def run(self):
        """Build, or exit with what is missing."""
        try:
            super().run()
        except Exception as error:
            raise SystemExit(
                f"GZMQSOURCE_REQUIRE_NATIVE=1, and the native transfer cannot be built: {error}\n"
                "It needs a C compiler, Python's headers (python3-dev), and Cython 3."
            ) from error


setup(
    cmdclass={"build_ext": BuildExtension} if REQUIRED else {},
    ext_modules=[
        Extension(
            "gzmqsource.transfer.native",
            ["gzmqsource/transfer/native.pyx"],
            depends=glob.glob("gzmqsource/transfer/*.pxi"),
            optional=not REQUIRED,
        )
    ],
)
