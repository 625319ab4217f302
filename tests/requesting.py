"""Requesters, and plain servers that they ask."""

import contextlib

import zmq
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.workers import Requester, _calls, _quick, requester


@contextlib.contextmanager
def server_of(context, handle, kind=zmq.ROUTER, endpoint="tcp://127.0.0.1:*", **options):
    """Run a server that gives each message, envelope included, to ``handle(server, message)``."""
    server = Source.open(kind, bind=endpoint, context=context, **options)
    server.set_handle(lambda message: handle(server, message))
    server.start()
    try:
        yield server
    finally:
        server.close()


def echo(server, message):
    server.send(message)


def ignore(server, message):
    pass


@contextlib.contextmanager
def requester_of(server, context, **options):
    """Make a requester for a server, or for endpoints."""
    endpoint = server if isinstance(server, (str, list)) else endpoint_of(server)
    asker = Requester.open(endpoint, context=context, linger=0, **options)
    try:
        yield asker
    finally:
        asker.close()


@contextlib.contextmanager
def in_python():
    """Make servers and requesters without the steps in C."""
    native, _quick._native = _quick._native, None
    requester.filled = _calls.filled
    try:
        yield
    finally:
        _quick._native = native
        requester.filled = _quick.filled
