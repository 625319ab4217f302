"""What `monitor` writes of each event: the time, the name, the endpoint and the reason."""

import json
import re

import pytest
import zmq
from command_under_test import run
from helpers import closing, endpoint_of

from gzmqsource import Source
from gzmqsource.auth import Authenticator
from gzmqsource.cli._events import as_json, as_line, reason_of
from gzmqsource.monitor import NAMES, PROTOCOL_ERRORS, SocketEvent

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def event_of(name, endpoint="tcp://127.0.0.1:5555", value=0, errno=None, error=None):
    return SocketEvent(name, endpoint, value, errno, error)


def test_its_lines_are_columns_that_begin_at_the_same_place(address):
    finished = run("monitor", "--connect", address, "--count", 6)
    lines = finished.stdout.decode().splitlines()
    assert finished.returncode == 0
    assert len(lines) == 6
    for line in lines:
        assert re.fullmatch(rf"{TIME}  [a-z_]+ +tcp://\S+(  .+)?", line), line
    assert {line.index(address) for line in lines} == {lines[0].index(address)}
    assert any(re.search(r"  next attempt in \d+ ms$", line) for line in lines)


def test_its_objects_of_json_have_the_same(address):
    finished = run("monitor", "--connect", address, "--count", 6, "--format", "json")
    events = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(events) == 6
    for each in events:
        assert list(each) == ["time", "event", "endpoint", "value", "reason"]
        assert re.fullmatch(TIME, each["time"])
        assert each["event"] in NAMES.values()
        assert each["endpoint"] == address
    retried = next(each for each in events if each["event"] == "connect_retried")
    assert retried["reason"] == f"next attempt in {retried['value']} ms"


def test_the_status_of_an_authenticator_is_said_in_words(context):
    options = {"plain_server": True, "context": context}
    with Authenticator(context=context) as authenticator:
        authenticator.configure_plain(passwords={"ann": "secret"})
        with closing(Source.open(zmq.ROUTER, bind="tcp://127.0.0.1:*", **options)) as (source,):
            user = ("--plain-user", "ann", "--plain-password", "wrong")
            finished = run("monitor", "--connect", endpoint_of(source), *user, "--count", 3)
    assert "handshake_failed_auth" in finished.stdout.decode()
    assert "  ZAP status 400: the authenticator does not accept this peer" in (
        finished.stdout.decode()
    )


@pytest.mark.parametrize("error", PROTOCOL_ERRORS.values())
def test_an_error_in_a_handshake_is_said_in_words(error):
    reason = reason_of(event_of("handshake_failed_protocol", error=error)) or ""
    assert re.fullmatch(r"(ZMTP|ZAP|WS)( [a-z0-9]+)*", reason), reason


def test_an_errno_is_said_in_words():
    assert reason_of(event_of("bind_failed", value=98, errno=98)) == "Address already in use"
    assert reason_of(event_of("connect_delayed", value=115)) == "Operation now in progress"
    assert reason_of(event_of("connected", value=12)) is None


@pytest.mark.parametrize("name", NAMES.values())
def test_every_name_has_room_in_its_column(name):
    line = as_line()(event_of(name))
    assert line.index("tcp://") == as_line()(event_of("connected")).index("tcp://")
    assert f"  {name}  " in line


def test_an_endpoint_reaches_no_terminal_as_it_is():
    event = event_of("connected", endpoint="ipc://\x1b[31m")
    assert "ipc://\\x1b[31m" in as_line()(event)
    assert "\x1b" not in as_json(event)
