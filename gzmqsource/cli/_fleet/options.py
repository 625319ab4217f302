"""The options of ``serve`` for more than one process, and the command line of a worker."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gzmqsource.cli._fleet.cores import usable_cores
from gzmqsource.cli._fleet.tether import Tether
from gzmqsource.cli._fleet.words import RUNS_SAID
from gzmqsource.cli._handler import Handler
from gzmqsource.cli._numbers import Seconds, Whole
from gzmqsource.cli._signals import StopOrders
from gzmqsource.cli._sockets import Endpoint
from gzmqsource.workers import Responder

#: The options that a master passes on to its workers. Limits for clients apply in the master.
_PASSED_ON = (
    "spawn",
    "dead_after",
    "timeout",
    "stop_timeout",
    "stuck_after",
    "max_requests",
    "max_requests_jitter",
    "patch",
)

#: The types of sockets that a broker may be for.
_REQUESTS = ("rep", "router")


@dataclass(frozen=True)
class FleetOptions:
    """The values of the options."""

    #: How many processes answer; None for this one.
    workers: int | None
    #: The brokers that this process works for.
    join: tuple[str, ...]
    #: Seconds without its hub after which a worker counts as stuck.
    stuck_after: float
    #: After how many requests a worker leaves; None for never.
    max_requests: int | None
    #: The most requests beyond those.
    max_requests_jitter: int
    #: The descriptor of the line to the master.
    tether: int | None
    #: Whether the master asks for numbers.
    numbers: bool

    def orders(self, stop_timeout: float) -> StopOrders:
        """Return the orders to stop: those of the master, if there is one, or signals."""
        if self.tether is None:
            return StopOrders(stop_timeout)
        joined = Path(self.join[0].removeprefix("ipc://"))
        return Tether(self.tether, stop_timeout, self.stuck_after / RUNS_SAID, joined)

    def load(self, target: str, timeout: float | None, orders: StopOrders) -> Handler:
        """Return the handler, which asks to stop after its last request.

        The workers of a master do not all do so at the same time.

        Raises
        ------
        click.ClickException
            There is no such function. The master, if there is one, reports why.
        """
        try:
            handler = Handler(target, timeout)
        except click.ClickException as error:
            orders.not_started(error)
        if self.max_requests is not None:
            beyond = random.randint(0, self.max_requests_jitter)
            handler.limit(self.max_requests + beyond, orders.ask_to_stop)
        return handler

    def tell_numbers(self, orders: StopOrders, not_ready: Callable[[], str | None]) -> None:
        """Report to the master the numbers of all sources of this process that start from now on.

        Parameters
        ----------
        orders : StopOrders
            As returned by `orders`.
        not_ready : callable
            Returns why this process is not ready, or None if it is.
        """
        if self.numbers and isinstance(orders, Tether):
            from gzmqsource.cli._exposition import Exposition

            orders.numbers = Exposition(not_ready)


class _Number(Whole):
    name = "number of workers (or auto)"


class _Count(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number of workers, or ``auto``."""

    name = _Number.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        count: int = usable_cores() if value == "auto" else _Number(1).convert(value, param, ctx)
        return count


_OPTIONS = (
    click.option(
        "--workers",
        type=_Count(),
        metavar="N",
        help="Answer in N processes, or with `auto` in one for each usable core. The main process "
        "binds the endpoint and passes each request to a free worker.",
    ),
    click.option(
        "--join",
        multiple=True,
        metavar="URL",
        type=Endpoint(binds=False),
        help="The back endpoint of a broker to work for, instead of --bind. Repeatable.",
    ),
    click.option(
        "--stuck-after",
        type=Seconds(0.1),
        help="With --workers: seconds after which a worker whose hub has not run is replaced.  "
        "[default: twice --dead-after]",
    ),
    click.option(
        "--max-requests",
        type=Whole(1),
        help="With --workers: replace a worker after this number of requests. With --join: exit.",
    ),
    click.option(
        "--max-requests-jitter",
        type=Whole(0),
        default=0,
        show_default=True,
        help="The maximum of the random number that is added to --max-requests.",
    ),
    click.option("--tether", type=Whole(0), hidden=True, help="The line to the master."),
    click.option("--numbers", is_flag=True, hidden=True, help="The master asks for numbers."),
)


def fleet_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to ``serve``, which is passed one `FleetOptions`, ``fleet``."""

    @functools.wraps(function)
    def call(
        workers: int | None,
        join: tuple[str, ...],
        stuck_after: float | None,
        max_requests: int | None,
        max_requests_jitter: int,
        tether: int | None,
        numbers: bool,
        **rest: Any,
    ) -> Any:
        _check_roles(workers, join, rest)
        if stuck_after is not None and workers is None and tether is None:
            raise click.UsageError("--stuck-after needs --workers: a single process has no master")
        if max_requests is not None and workers is None and not join:
            raise click.UsageError(
                "--max-requests needs --workers or --join: else clients have no other server"
            )
        if max_requests_jitter and max_requests is None:
            raise click.UsageError("--max-requests-jitter needs --max-requests")
        seconds = 2 * rest["dead_after"] if stuck_after is None else stuck_after
        limits = (max_requests, max_requests_jitter)
        fleet = FleetOptions(workers, join, seconds, *limits, tether, numbers)
        return function(fleet=fleet, **rest)

    for option in reversed(_OPTIONS):
        call = option(call)
    return call


def _check_roles(workers: int | None, join: tuple[str, ...], given: dict[str, Any]) -> None:
    """Refuse options that do not fit the role of the process, and two roles at once."""
    if workers is None and not join:
        return
    if workers is not None and join:
        raise click.UsageError(
            "--workers and --join exclude each other: a process has a broker for its workers, or "
            "is the worker of one"
        )
    role = "--join" if join else "--workers"
    socket, kind = given["socket"], given["kind"]
    if kind not in _REQUESTS:
        raise click.UsageError(f"{role} is for requests: --type rep or router, not {kind}")
    if socket["connect"]:
        raise click.UsageError(
            f"{role} and --connect exclude each other: --connect is for the back of a proxy"
        )
    if join and socket["bind"]:
        raise click.UsageError("--join and --bind exclude each other: the broker has the endpoint")
    if join and given["max_waiting"] != Responder.default_waiting:
        raise click.UsageError("--join has no --max-waiting: requests wait in the broker")


def worker_command(context: click.Context) -> list[str]:
    """Return the command line of a worker, but for the broker; it needs no other options."""
    command = [sys.executable, *_path_options(), "-m", "gzmqsource.cli", "serve"]
    command.append(context.params["handler"])
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name not in _PASSED_ON or value is None:
            continue
        if isinstance(value, bool):
            command += option.opts if value else option.secondary_opts
        else:
            command += [*option.opts, str(value)]
    return command


def _path_options() -> list[str]:
    """Return the options for a `sys.path` as that of this process.

    The current directory, which ``-m`` puts in front of all, may have a module of the name of one
    that this package imports. `Handler` adds it when all of those are imported.
    """
    with contextlib.suppress(FileNotFoundError):  # it was removed
        if not {"", os.getcwd()}.isdisjoint(sys.path):
            return []
    return ["-P"] if sys.version_info >= (3, 11) else []
