"""Options that are not on the command line: from a file of TOML, and from the environment."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

#: The prefix of the variables of all options.
PREFIX = "GZMQSOURCE"

#: The variables that are for the master, and not for its workers.
_OF_THE_MASTER = {
    f"{PREFIX}_CONFIG",
    f"{PREFIX}_PLAIN_PASSWORD",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
}

#: The options whose values are in no error, which may be in a log.
_SECRET = {"plain_password"}

#: The values of the variables that every program reads.
_VALUES = {
    f"{PREFIX}_TRANSFER": ("native", "pure"),
    f"{PREFIX}_PATCH": ("1", "green", "0"),
    f"{PREFIX}_DEBUG": ("1", "0"),
}


class WrongConfig(click.ClickException):
    """A file or a variable that cannot be used, with the exit status of a wrong command line."""

    exit_code = 2


def check_variables() -> None:
    """Refuse wrong values, before a verb is imported, or starts processes that have them, too.

    Raises
    ------
    WrongConfig
        A variable has a value that it cannot have.
    """
    for name, values in _VALUES.items():
        value = os.environ.get(name, "")
        if value and value not in values:
            raise WrongConfig(f"{name}={value!r}: use {', '.join(values[:-1])} or {values[-1]}")


class Config:
    """The options of a file, for each verb in a table.

    Parameters
    ----------
    path : str
        Where it is.
    command : click.Group
        Whose options are in front of all tables, and whose verbs the tables are named after.
    context : click.Context
        The context of *command*.

    Raises
    ------
    WrongConfig
        It cannot be read, or has a table of no verb.
    """

    def __init__(self, path: str, command: click.Group, context: click.Context) -> None:
        #: Where it is.
        self.path = path
        verbs = command.list_commands(context)
        content = self._read()
        self._tables = {name: value for name, value in content.items() if name in verbs}
        rest = {name: value for name, value in content.items() if name not in verbs}
        own = {**_options_of(command), **{f"[{verb}]": None for verb in verbs}}
        named = {f"[{key}]" if isinstance(rest[key], dict) else key: rest[key] for key in rest}
        #: The options of the command itself, by the names of its parameters.
        self.common = self._checked(named, own, "")

    def of(self, verb: str, command: click.Command) -> dict[str, Any]:
        """Return the options of a verb, by the names of its parameters.

        Raises
        ------
        WrongConfig
            One is unknown, or not of the type that it has to be.
        """
        table = self._tables.get(verb, {})
        if not isinstance(table, dict):
            raise WrongConfig(f"{self.path}: {verb} has to be a table: [{verb}]")
        return self._checked(table, _options_of(command), f"[{verb}] ")

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                content: dict[str, Any] = tomllib.load(file)
        except OSError as error:
            raise WrongConfig(f"{self.path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise WrongConfig(f"{self.path}: this is not TOML: {error}") from error
        return content

    def _checked(
        self, table: Mapping[str, Any], options: Mapping[str, click.Option | None], where: str
    ) -> dict[str, Any]:
        checked: dict[str, Any] = {}
        for key, value in table.items():
            option = options.get(key)
            if option is None:
                raise WrongConfig(f"{self.path}: {where}{key} is unknown: {_meant(key, options)}")
            types, wanted = _allowed(option)
            items = value if option.multiple and isinstance(value, list) else ()
            if type(value) not in types or not all(isinstance(each, str) for each in items):
                got = _shown(value, is_secret=option.name in _SECRET)
                raise WrongConfig(f"{self.path}: {where}{key} is {wanted}, not {got}")
            try:
                has_nul = any("\0" in str(each) for each in (value, *items))
            except ValueError:  # Python writes no number of more than 4300 digits
                text = f"{self.path}: {where}{key} has too many digits"
                raise WrongConfig(text) from None
            if has_nul:
                raise WrongConfig(f"{self.path}: {where}{key} contains a NUL")
            assert option.name is not None
            checked[option.name] = value if isinstance(value, (bool, list)) else str(value)
        return checked


@contextlib.contextmanager
def naming_sources() -> Iterator[None]:
    """Add to the error of an option that is not on the command line where it was set."""
    try:
        yield
    except click.BadParameter as error:
        option, context = error.param, error.ctx
        if isinstance(option, click.Option) and option.name and context is not None:
            source = context.get_parameter_source(option.name)
            key = option.opts[0].removeprefix("--")
            if source is ParameterSource.ENVIRONMENT:
                _add(error, f" (It is from the environment variable {option.envvar}.)")
            elif source is ParameterSource.DEFAULT_MAP:
                where = f"[{context.info_name}] " if context.parent is not None else ""
                _add(error, f" (It is from {context.obj.path}: {where}{key}.)")
        raise


def _add(error: click.ClickException, text: str) -> None:
    error.message += text  # type: ignore[misc]


def name_variables(command: click.Command, prefix: str) -> None:
    """Let each option be set by a variable that is spelled as the option is.

    click's own variable is spelled as the parameter: GZMQSOURCE_SERVE_KIND for --type.
    """
    for name, option in _options_of(command).items():
        if option is not None and option.envvar is None and not option.hidden:
            option.envvar = f"{prefix}_{name.upper().replace('-', '_')}"


def environment_of_workers() -> dict[str, str]:
    """Return the environment for processes that this one starts, which take no options from it.

    Only the format and the level of the log are passed on, wherever they were set.
    """
    context = click.get_current_context().find_root()
    assert isinstance(context.command, click.Group)
    verbs = context.command.list_commands(context)
    theirs = tuple(f"{PREFIX}_{verb.upper()}_" for verb in verbs)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(theirs) and name not in _OF_THE_MASTER
    }
    for name in "log_format", "log_level":
        if context.params[name] is not None:
            kept[f"{PREFIX}_{name.upper()}"] = context.params[name]
    return kept


def _options_of(command: click.Command) -> dict[str, click.Option | None]:
    """Return the options that a file may have, by their names on the command line."""
    return {
        name.removeprefix("--"): each
        for each in command.params
        if isinstance(each, click.Option) and each.allow_from_autoenv and not each.hidden
        for name in each.opts
        if name.startswith("--")
    }


def _meant(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key.replace("_", "-"), known, 1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(sorted(known))}"


def _shown(value: object, is_secret: bool) -> str:
    """Return a value as a text for an error; no secret, and none that is too deep or too large."""
    if not is_secret:
        with contextlib.suppress(RecursionError, ValueError):
            return f"{value!r:.100}"
    return f"a value of the type {type(value).__name__}"


def _allowed(option: click.Option) -> tuple[tuple[type, ...], str]:
    """Return the types of TOML that an option takes; click would take 2.7 for an integer."""
    kind = option.type
    if option.multiple:
        return (list,), "a list of strings"
    if option.is_flag:
        return (bool,), "true or false"
    if isinstance(kind, click.types.IntParamType):
        return (int,), "an integer"
    if isinstance(kind, click.types.FloatParamType):
        return (int, float), "a number"
    if isinstance(kind, click.Choice):
        return (str,), f"one of {', '.join(map(repr, kind.choices))}"
    if isinstance(kind, (click.types.StringParamType, click.Path)):
        return (str,), "a string"
    return (str, int), "a string or an integer"  # of a type of this package's
