"""The ``gzmqsource`` command, of the extra ``cli``."""

from __future__ import annotations


def main() -> None:
    """Run the command; say so if what it needs is not installed."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        raise SystemExit(
            f"gzmqsource: {error.name} is missing: pip install 'gzmqsource[cli]'"
        ) from error
    from gzmqsource.cli.command import gzmqsource

    gzmqsource()
