"""The command itself: its verbs, each in a module that is imported on first use."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from gzmqsource import __version__
from gzmqsource.cli._config import PREFIX, Config, check_variables, name_variables, naming_sources
from gzmqsource.cli._early import raise_interrupts, release_hangups
from gzmqsource.cli._help import Context, folded
from gzmqsource.cli._log import FORMATS, LEVELS, is_json, log, log_to_stderr
from gzmqsource.cli._text import printable

if TYPE_CHECKING:  # for PyInstaller, which reads this, and sees no import by a string
    from gzmqsource.cli import (  # noqa: F401
        _bench,
        _broker,
        _completion,
        _doctor,
        _keygen,
        _pipes,
        _send,
        _serve,
        _top,
        _watch,
    )

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
    "keygen": "keygen",
    "bench": "bench",
    "doctor": "doctor",
    "completion": "completion",
}

#: The most characters of a sentence that says what a verb does.
_LONGEST = 100


class _VerbContext(Context):
    def invoke(self, *args: Any, **options: Any) -> Any:
        """Run the verb, whose options are known now: one that reloads nothing ends by a SIGHUP."""
        if self.info_name != "serve" and not self.params.get("curve_clients"):
            release_hangups()
        return super().invoke(*args, **options)


class _Verbs(click.Group):
    context_class = Context

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        check_variables()
        try:
            command: Any = getattr(import_module(f"gzmqsource.cli._{_VERBS[name]}"), name)
        except ImportError as error:
            # The package says why it cannot work here.
            raise click.ClickException(str(error)) from error
        name_variables(command, f"{PREFIX}_{name.upper()}")
        command.context_class = _VerbContext
        return command  # type: ignore[no-any-return]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs, each with the whole first sentence of its help."""
        names = self.list_commands(context)
        verbs = [(name, self.get_command(context, name)) for name in names]
        with formatter.section("Verbs"):
            formatter.write_dl(
                [(name, verb.get_short_help_str(_LONGEST)) for name, verb in verbs if verb]
            )

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(context, args)
        if context.obj is not None and name is not None and command is not None:
            context.default_map = {name: context.obj.of(name, command)}
        raise_interrupts()  # the verb is imported
        return name, command, rest

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        make = super().make_context
        try:
            with _ending_with_its_reader(), naming_sources():
                return make(info_name, [*args], parent, **extra)
        except click.ClickException as error:
            # Without arguments, this is the help. The context has the options that are right.
            context = make(info_name, [*args], resilient_parsing=True)
            if not args or context.params.get("log_format") != "json":
                raise
            log_to_stderr("json")
            log.error("%s", error.format_message())
            raise SystemExit(error.exit_code) from None

    def invoke(self, context: click.Context) -> Any:
        log_to_stderr(context.params["log_format"], context.params["log_level"])
        try:
            with _ending_with_its_reader(), naming_sources():
                return super().invoke(context)
        except click.ClickException as error:
            # It may quote what a peer has sent.
            error.message = printable(error.message)  # type: ignore[misc]
            if not is_json():
                error.message = folded(error.message)  # type: ignore[misc]
                raise
            log.error("%s", error.format_message())
            context.exit(error.exit_code)
        except KeyboardInterrupt:
            context.exit(128 + signal.SIGINT)
        except SystemExit as error:
            # A handler may have raised it; Python writes a code that is not a number to stderr.
            if error.code is not None and not isinstance(error.code, int):
                error.code = printable(str(error.code))
                if is_json():
                    log.error("%s", error.code)
                    error.code = 1
            raise


@contextlib.contextmanager
def _ending_with_its_reader() -> Iterator[None]:
    """End silently, and with the status of SIGPIPE, once the output has no reader."""
    try:
        yield
    except BrokenPipeError:
        # The output that Python has yet to flush is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def _read_config(context: click.Context, _option: click.Parameter, path: str | None) -> None:
    if path is not None:
        assert isinstance(context.command, click.Group)
        context.obj = Config(path, context.command, context)
        context.default_map = context.obj.common


@click.group(
    cls=_Verbs,
    subcommand_metavar="VERB [ARGS]...",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
# An image may have the variable GZMQSOURCE_VERSION for the version that it installs.
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
    help="Read options from a TOML file with a table for each verb.",
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="The format of the log on the standard error.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="The lowest level that is logged.  [default: info for servers, warning for other verbs]",
)
def gzmqsource(**_options: Any) -> None:
    """Serve, send, receive and inspect ZeroMQ messages.

    Each verb has its own --help, with an example.

    An option that is not on the command line is taken from the environment, then from the --config
    file. For --spawn of serve, the variable is GZMQSOURCE_SERVE_SPAWN, and the key is spawn in the
    table [serve].

    \b
    Exit status:
      0  success
      1  something failed
      2  the command line is wrong

    \b
    Completion in bash, in ~/.bashrc:
      eval "$(gzmqsource completion bash)"
    """


name_variables(gzmqsource, PREFIX)
