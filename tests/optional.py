"""Packages that few tests need: a small environment lacks them, and `make test` installs them."""

import importlib.util

import pytest


def needs(*packages, extra):
    """Mark a test, to be skipped where a package is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    how = f"pip install -e '.[{extra}]'"
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is missing: {how}")
