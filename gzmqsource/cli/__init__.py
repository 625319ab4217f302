"""The ``gzmqsource`` command, of the extra ``cli``."""

from __future__ import annotations

import errno


def main() -> None:
    """Run the command; say so if what it needs is not installed."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        raise SystemExit(
            f"gzmqsource: {error.name} is missing: pip install 'gzmqsource[cli]'"
        ) from error
    from gzmqsource.cli._command import gzmqsource

    try:
        gzmqsource()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SystemExit(f"gzmqsource: cannot write: {error.strerror}") from error
