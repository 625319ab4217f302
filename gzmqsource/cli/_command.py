"""The command itself: its verbs, each in a module that is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from gzmqsource import __version__
from gzmqsource.cli._log import log_to_stderr
from gzmqsource.cli._text import printable

if TYPE_CHECKING:  # for PyInstaller, which reads this, and sees no import by a string
    from gzmqsource.cli import _bench, _broker, _pipes, _serve, _tools, _top, _watch  # noqa: F401

#: The verbs and their modules.
_VERBS = {
    "serve": "serve",
    "send": "pipes",
    "recv": "pipes",
    "request": "pipes",
    "proxy": "watch",
    "broker": "broker",
    "monitor": "watch",
    "top": "top",
    "keygen": "tools",
    "bench": "bench",
    "doctor": "tools",
}


class _Verbs(click.Group):
    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        try:
            command: Any = getattr(import_module(f"gzmqsource.cli._{_VERBS[name]}"), name)
        except ImportError as error:
            # The package says why it cannot work here.
            raise click.ClickException(str(error)) from error
        return command  # type: ignore[no-any-return]

    def invoke(self, context: click.Context) -> Any:
        log_to_stderr()
        try:
            return super().invoke(context)
        except click.ClickException as error:
            # It may quote what a peer has sent.
            error.message = printable(error.message)  # type: ignore[misc]
            raise
        except SystemExit as error:
            # A handler may have raised it; Python writes what is no number to the standard error.
            if error.code is not None and not isinstance(error.code, int):
                error.code = printable(str(error.code))
            raise


@click.group(
    cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__)
def gzmqsource() -> None:
    """ZeroMQ for gevent programs: serve, send, receive, and inspect.

    \b
    Exit status: 0 for success, 1 if something failed, 2 if the command line is wrong.
    """
