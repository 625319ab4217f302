"""``broker``: sharing requests out to workers."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

import click

from gzmqsource.broker import Broker
from gzmqsource.cli._numbers import Seconds, Whole
from gzmqsource.cli._operations import Operations, operating_options
from gzmqsource.cli._security import security_options
from gzmqsource.cli._signals import (
    Interrupted,
    Told,
    check_finished,
    finish,
    stop_accepted,
    unfinished,
)
from gzmqsource.cli._sockets import Endpoint, check_sides, ipv6_for, telling_errors

_log = logging.getLogger("gzmqsource.broker")


@click.command()
@click.argument("front", type=Endpoint(binds=True))
@click.argument("back", type=Endpoint(binds=True))
@click.option(
    "--redeliver/--no-redeliver",
    default=False,
    show_default=True,
    help="Whether to give a request to another worker after its worker was lost. It may be "
    "executed twice.",
)
@click.option(
    "--max-waiting",
    type=Whole(0),
    default=Broker.default_waiting,
    show_default=True,
    help="The maximum number of requests that wait for a worker. Further requests are refused, or "
    "not read if the client does not know refusals.",
)
@click.option(
    "--dead-after",
    type=Seconds(0.02),
    default=1.0,
    show_default=True,
    help="Seconds of silence after which clients consider this broker dead.",
)
@click.option(
    "--stop-timeout",
    type=Seconds(0),
    default=30.0,
    show_default=True,
    help="Seconds to finish accepted requests after a signal to stop.",
)
@security_options
@operating_options
def broker(
    front: str,
    back: str,
    stop_timeout: float,
    security: dict[str, Any],
    operations: Operations,
    **options: Any,
) -> None:
    """Pass requests from FRONT to free workers that have joined BACK.

    A worker is `gzmqsource serve --join BACK`, or any Responder that has joined. Every peer that
    can connect to BACK is given requests: use ipc://, or CURVE. SIGTERM and SIGINT stop the broker
    after it has finished the requests that it has accepted. Its clients are told to use other
    servers.

    \b
    Example:
      gzmqsource broker \\
        tcp://0.0.0.0:5557 ipc:///run/pool/workers
    """
    check_sides(front, back)
    told = Told()
    # Before a socket is bound: a signal would lose the messages that it has received by then.
    told.listen()
    with operations:
        with telling_errors():
            serving = Broker.open(front, back, **options, **security, **ipv6_for(front, back))
        serving.start()
        _log.info("%s for %s: pid %d", serving.back, serving.front, os.getpid())
        operations.serving(str(serving.front))
        told.acquire()
        operations.stopping()
        lost = serving.stats().lost
        try:
            stop = functools.partial(stop_accepted, serving)
            given_up = finish(told, stop, stop_timeout, functools.partial(_pending, serving))
        except Interrupted:
            serving.close()
            raise
    _log.info("stopped")
    check_finished(stop_timeout, given_up, serving.stats().lost - lost)


def _pending(serving: Broker) -> str | None:
    stats = serving.stats()
    return unfinished(stats.running, stats.waiting)
