"""Build script; what is declared is in setup.cfg.

The extension is optional: without a compiler the install succeeds, and the transfer in Python
serves.
"""

import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "gzmqsource.transfer.native",
            ["gzmqsource/transfer/native.pyx"],
            depends=glob.glob("gzmqsource/transfer/*.pxi"),
            optional=True,
        )
    ]
)
