"""Clients and servers in C and JavaScript, which know nothing of this project, at both ends."""

import contextlib
import os
from typing import Any

import pytest
import zmq
from foreign import command_of
from helpers import endpoint_of, process_of

from gzmqsource.auth import Authenticator
from gzmqsource.workers import Requester, Responder

COUNT = 40
PASSWORD = ("user", "a password")
SERVER_KEYS = zmq.curve_keypair()
CLIENT_KEYS = zmq.curve_keypair()

#: The options of our server and client with each mechanism, and the words for one of theirs.
MECHANISMS: dict[str, tuple[Any, Any, Any, Any]] = {
    "null": ({}, {}, [], []),
    "plain": (
        {"plain_server": True, "zap_domain": b"site"},
        {"plain_username": PASSWORD[0].encode(), "plain_password": PASSWORD[1].encode()},
        PASSWORD,
        PASSWORD,
    ),
    "curve": (
        {"curve_server": True, "curve_secretkey": SERVER_KEYS[1], "zap_domain": b"site"},
        {
            "curve_serverkey": SERVER_KEYS[0],
            "curve_publickey": CLIENT_KEYS[0],
            "curve_secretkey": CLIENT_KEYS[1],
        },
        [SERVER_KEYS[1].decode()],
        [key.decode() for key in (SERVER_KEYS[0], *CLIENT_KEYS)],
    ),
}

pytestmark = [pytest.mark.processes, pytest.mark.limit(60)]


@pytest.fixture(params=["C", "Node"])
def language(request):
    return request.param


@pytest.fixture(params=list(MECHANISMS))
def mechanism(request):
    return request.param


@contextlib.contextmanager
def peer(language, role, endpoint, mechanism, words):
    command, environment = command_of(language)
    arguments = (*command, role, endpoint, COUNT, mechanism, *words)
    with process_of(*arguments, env=os.environ | environment) as process:
        yield process


@contextlib.contextmanager
def door_of(context, mechanism):
    """Let our server's clients in."""
    if mechanism == "null":
        yield
        return
    with Authenticator(context) as door:
        if mechanism == "plain":
            door.configure_plain("site", dict([PASSWORD]))
        else:
            door.configure_curve("site", lambda _, key: key == CLIENT_KEYS[0])
        yield


def upper(payload):
    return [bytes(frame).upper() for frame in payload]


@pytest.mark.parametrize("role", ["req", "dealer"])
def test_a_client_of_another_language_has_its_replies(context, language, mechanism, role):
    options, _, _, words = MECHANISMS[mechanism]
    responder = Responder.open(upper, bind="tcp://127.0.0.1:*", context=context, **options)
    with door_of(context, mechanism), responder:
        responder.start()
        with peer(language, role, endpoint_of(responder.source), mechanism, words) as process:
            assert int(process.stdout.read()) == COUNT
            assert process.wait() == 0
        assert responder.stats().replies == COUNT


@pytest.mark.parametrize("role", ["rep", "router"])
def test_a_server_of_another_language_is_asked(context, language, mechanism, role):
    _, options, words, _ = MECHANISMS[mechanism]
    with peer(language, role, "tcp://127.0.0.1:*", mechanism, words) as process:
        endpoint = process.stdout.readline().strip()
        with Requester.open(endpoint, context=context, **options) as requester:
            asked = [
                requester.submit([b"request %d" % number, b"body"], timeout=20)
                for number in range(COUNT)
            ]
            for number, result in enumerate(asked):
                assert result.get() == [b"REQUEST %d" % number, b"BODY"]
        process.stdin.close()
        assert int(process.stdout.read()) == COUNT
        assert process.wait() == 0
