"""The command itself: its verbs, each in a module that is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from gzmqsource import __version__
from gzmqsource.cli._config import PREFIX, Config, naming_sources
from gzmqsource.cli._log import FORMATS, LEVELS, is_json, log, log_to_stderr
from gzmqsource.cli._text import printable

if TYPE_CHECKING:  # for PyInstaller, which reads this, and sees no import by a string
    from gzmqsource.cli import _bench, _broker, _pipes, _send, _serve, _tools, _top, _watch  # noqa: F401

#: The verbs and their modules.
_VERBS = {
    "serve": "serve",
    "send": "send",
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

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(context, args)
        if context.obj is not None and name is not None and command is not None:
            context.default_map = {name: context.obj.of(name, command)}
        return name, command, rest

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with naming_sources():
            return super().make_context(*args, **options)

    def invoke(self, context: click.Context) -> Any:
        log_to_stderr(context.params["log_format"], context.params["log_level"])
        try:
            with naming_sources():
                return super().invoke(context)
        except click.ClickException as error:
            # It may quote what a peer has sent.
            error.message = printable(error.message)  # type: ignore[misc]
            if not is_json():
                raise
            log.error("%s", error.format_message())
            context.exit(error.exit_code)
        except SystemExit as error:
            # A handler may have raised it; Python writes what is no number to the standard error.
            if error.code is not None and not isinstance(error.code, int):
                error.code = printable(str(error.code))
                if is_json():
                    log.error("%s", error.code)
                    error.code = 1
            raise


def _read_config(context: click.Context, _option: click.Parameter, path: str | None) -> None:
    if path is not None:
        assert isinstance(context.command, click.Group)
        context.obj = Config(path, context.command, context)
        context.default_map = context.obj.common


@click.group(
    cls=_Verbs,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": PREFIX,
    },
)
# An image may have the variable GZMQSOURCE_VERSION for what it installs.
@click.version_option(__version__, allow_from_autoenv=False)
@click.option(
    "--config",
    metavar="FILE",
    envvar=f"{PREFIX}_CONFIG",
    show_envvar=True,
    allow_from_autoenv=False,
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="Take options from a file of TOML, which has a table for each verb.",
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="How records of the log are written to the standard error.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="The least that is logged.  [default: info of a server, warning of other verbs]",
)
def gzmqsource(**_options: Any) -> None:
    """ZeroMQ for gevent programs: serve, send, receive, and inspect.

    An option that is not on the command line is taken from the environment, where --spawn of serve
    is GZMQSOURCE_SERVE_SPAWN, then from the file of --config, where it is spawn in the table
    [serve].

    \b
    Exit status: 0 for success, 1 if something failed, 2 if the command line is wrong.
    """
