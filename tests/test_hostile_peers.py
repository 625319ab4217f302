"""`Authenticator` under peers that have no business here."""

import gc
import json
import os

import gevent
import psutil
import pytest
import zmq
import zmq.auth
from authentication import (
    CURVE,
    GREETING,
    HELLO,
    IMPATIENT,
    PLAIN,
    SERVER_KEYS,
    curve,
    gets_in,
    knock,
    plain,
    server_of,
    with_patience,
)
from gevent.pool import Pool
from gevent.queue import Empty
from helpers import endpoint_of, line_of, python_process

from gzmqsource import Source
from gzmqsource.auth import Authenticator
from gzmqsource.testing import wait_until


@pytest.fixture
def auth(context):
    with Authenticator(context) as auth:
        yield auth


#: Plain clients, 25 at a time: each tries in each of the ways, and is told whether it got in.
CLIENTS = """
import json, sys, zmq

curved, plained, server_key, *revoked, times = json.loads(sys.argv[1])
context = zmq.Context()


def knock(endpoint, **options):
    client = context.socket(zmq.PUSH)
    client.linger = 0
    for name, value in options.items():
        setattr(client, name, value)
    monitor = client.get_monitor_socket()
    client.connect(endpoint)
    return client, monitor


def curve(keys):
    public, secret = keys
    return dict(
        curve_serverkey=server_key.encode(), curve_publickey=public, curve_secretkey=secret
    )


def came_in(monitor):
    while True:
        event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return True
        if zmq.Event(event).name.startswith("HANDSHAKE_FAILED"):
            return False


came = 0
for _ in range(0, times, 25):
    for endpoint, options in (
        (curved, lambda: curve(zmq.curve_keypair())),
        (curved, lambda: curve([key.encode() for key in revoked])),
        (plained, lambda: dict(plain_username=b"user", plain_password=b"wrong")),
        (plained, dict),
    ):
        clients = [knock(endpoint, **options()) for _ in range(25)]
        for client, monitor in clients:
            came += came_in(monitor)
        for client, monitor in clients:
            client.disable_monitor()
            monitor.close()
            client.close()
print(came)
"""


@pytest.mark.limit(120)
@pytest.mark.once
def test_1000_that_have_no_business_here_stay_out_and_leave_nothing(context, auth, tmp_path):
    _, revoked_file = zmq.auth.create_certificates(tmp_path, "revoked")
    _, right_file = zmq.auth.create_certificates(tmp_path, "right")
    right = zmq.auth.load_certificate(right_file)
    public, secret = zmq.auth.load_certificate(revoked_file)
    assert secret is not None
    auth.configure_curve(location=tmp_path)
    auth.configure_plain(passwords={"user": "secret"})
    os.unlink(tmp_path / "revoked.key")
    auth.reload()
    process = psutil.Process()

    with (
        server_of(context, **CURVE, **IMPATIENT) as curved,
        server_of(context, **PLAIN, **IMPATIENT) as plained,
    ):
        ends = [endpoint_of(curved), endpoint_of(plained)]
        keys = [key.decode() for key in (SERVER_KEYS[0], public, secret)]

        def knock_in_every_way(_):
            knock(ends[0], os.urandom(100))
            knock(ends[1], GREETING, HELLO)
            knock(ends[1], GREETING, b"\x04\x09\x05HELLO\xff\x04us")
            knock(ends[1], GREETING[:20])

        def try_all(times):
            with python_process(CLIENTS, json.dumps([*ends, *keys, times])) as clients:
                Pool(25).map(knock_in_every_way, range(times))
                assert line_of(clients) == "0"

        try_all(25)
        gc.collect()
        fds, memory = process.num_fds(), process.memory_info().rss
        try_all(125)
        gc.collect()
        wait_until(lambda: process.num_fds() <= fds)
        assert process.memory_info().rss - memory < 2 << 20
        assert gets_in(context, with_patience(curved), **curve(right))
        assert gets_in(context, with_patience(plained), **plain(b"user", b"secret"))
        for server in (curved, plained):
            with pytest.raises(Empty):
                server.recv(block=False)
    assert auth.stats().accepted == 2


def test_what_is_no_request_is_counted_and_logged_once(context, auth, caplog):
    prober = Source.open(zmq.DEALER, connect="inproc://zeromq.zap.01", context=context)
    request = [b"", b"1.0", b"1", b"site", b"127.0.0.1", b"", b"PLAIN", b"user", b"secret"]
    auth.configure_plain(passwords={"user": "secret"})
    malformed = [
        [b""],
        [b"x"],
        request[1:],
        request[:6],
        [b"", b"2.0", *request[2:]],
        [b"x"] * 10_000,
    ]
    for message in malformed:
        prober.send(message)
    for message in (
        request[:-1],
        [*request, b"more"],
        [*request[:-2], b"\xff", b"\xff"],
        [*request[:4], b"\xff\xff", *request[5:]],
        [*request[:6], b"CURVE", b"short"],
        [*request[:6], b"\xff\xff"],
    ):
        prober.send(message)
        assert prober.recv(timeout=10)[:4] in (
            [b"", b"1.0", b"1", b"400"],
            [b"", b"1.0", b"1", b"200"],
        )
    prober.send(request)
    assert prober.recv(timeout=10) == [b"", b"1.0", b"1", b"200", b"OK", b"user", b""]
    prober.close()
    assert auth.stats().malformed == len(malformed)
    assert caplog.text.count("malformed ZAP request") == 1


@pytest.mark.once
def test_a_flood_of_wrong_passwords_keeps_nobody_out(context, auth):
    auth.configure_plain(passwords={"user": "secret"})
    flooding = True
    with server_of(context, **PLAIN, **IMPATIENT) as server:
        attacked = endpoint_of(server)

        def flood():
            while flooding:
                knock(attacked, GREETING, HELLO)

        floods = [gevent.spawn(flood) for _ in range(10)]
        wait_until(lambda: auth.stats().refused > 100)
        assert gets_in(context, with_patience(server), **plain(b"user", b"secret"))
        flooding = False
        gevent.joinall(floods, raise_error=True, timeout=10)
