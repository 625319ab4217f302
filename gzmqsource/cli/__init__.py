"""The ``gzmqsource`` command; it needs the extra ``cli``."""

from __future__ import annotations

import errno

from gzmqsource.cli._early import end_by_interrupts, hold_hangups


def main() -> None:
    """Run the command, or exit with a message that names the package it lacks."""
    end_by_interrupts()
    hold_hangups()
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
