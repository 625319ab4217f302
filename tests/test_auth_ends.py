"""What an `Authenticator` leaves behind: once it was there, nobody gets in without it."""

import gc
import logging
import weakref

import gevent
import pytest
import zmq
from authentication import (
    CURVE,
    IMPATIENT,
    PLAIN,
    SERVER_KEYS,
    client_of,
    curve,
    gets_in,
    gets_in_at,
    plain,
    server_of,
    with_patience,
)
from gevent.event import Event
from gevent.exceptions import BlockingSwitchOutError
from helpers import closing, endpoint_of, in_the_hub

from gzmqsource import Source
from gzmqsource.auth import Authenticator
from gzmqsource.testing import all_blocked, wait_until

#: A server that asks, in each of the ways, and a client that it would let in.
ASKING = {
    "curve": ({"curve_server": True, "curve_secretkey": SERVER_KEYS[1]}, curve),
    "CURVE": ({"CURVE_SERVER": True, "CURVE_SECRETKEY": SERVER_KEYS[1]}, curve),
    "curve with a domain": (CURVE, curve),
    "curve with an empty domain": (CURVE | {"zap_domain": b""}, curve),
    "plain": ({"plain_server": True}, lambda _: plain(b"user", b"secret")),
    "address": ({"zap_domain": b"site", **IMPATIENT}, lambda _: {}),
}

asking = pytest.mark.parametrize(("options", "credentials"), ASKING.values(), ids=ASKING)


def authenticator_of(context):
    authenticator = Authenticator(context)
    authenticator.configure_curve()
    authenticator.configure_plain(passwords={"user": "secret"})
    return authenticator


@asking
def test_a_server_that_asks_lets_nobody_in_but_while_it_is_answered(context, options, credentials):
    client = credentials(zmq.curve_keypair())
    with server_of(context, **options) as server:
        impatient = endpoint_of(server)
        patient = endpoint_of(with_patience(server))
        assert not gets_in_at(context, impatient, **client)
        for _ in range(2):
            with authenticator_of(context):
                assert gets_in_at(context, patient, **client)
            assert not gets_in_at(context, impatient, **client)


@pytest.mark.parametrize("end", ["close", "kill", "drop"])
def test_however_an_authenticator_ends_nobody_gets_in_whom_it_refused(context, end):
    def refuse_all(authenticator):
        authenticator.configure_curve("*", lambda domain, key: False)
        authenticator.start()
        return authenticator._source

    def run(authenticator):
        with authenticator:
            gevent.sleep(60)

    # A server that asks one that is just being closed has no answer, until its patience is over.
    with server_of(context, **ASKING["curve"][0], **IMPATIENT) as server:
        authenticator = Authenticator(context)
        if end == "kill":
            running = gevent.spawn(run, authenticator)
            all_blocked()
        source = refuse_all(authenticator)
        if end == "close":
            source.close()
        elif end == "kill":
            running.kill()
        del authenticator
        gc.collect()
        assert not gets_in(context, server, **curve(zmq.curve_keypair()))
        source.close()


def test_one_that_is_dropped_goes_on_as_a_started_source_does_until_its_context_ends():
    context = zmq.Context()
    authenticator = authenticator_of(context)
    authenticator.start()
    dropped = weakref.ref(authenticator)
    del authenticator
    gc.collect()
    with server_of(context, **PLAIN) as server:
        assert gets_in(context, server, **plain(b"user", b"secret"))
    context.destroy(0)
    all_blocked()
    gc.collect()
    assert dropped() is None


def test_a_rule_sees_the_domain_that_a_socket_was_given_or_none(context):
    domains = []

    def rule(domain, key):
        domains.append(domain)
        return True

    with Authenticator(context) as authenticator:
        authenticator.configure_curve("*", rule)
        for options in (ASKING["curve"][0], CURVE):
            with server_of(context, **options) as server:
                assert gets_in(context, server, **curve(zmq.curve_keypair()))
    assert domains == ["", "site"]


def test_its_stop_warns_of_the_servers_that_rely_on_it(context, caplog):
    keys = zmq.curve_keypair()
    other = zmq.Context()
    authenticator = authenticator_of(context)
    authenticator.start()
    with (
        server_of(context, **CURVE) as closed,
        server_of(context, **CURVE, zap_enforce_domain=0) as opened,
        server_of(context, **PLAIN, zap_enforce_domain=0) as by_name,
        server_of(context),
        server_of(other, **CURVE),
        closing(Source.open(zmq.PUSH, context=context, **curve(keys))),
    ):
        with server_of(context, **CURVE):
            pass  # and is closed when it stops
        authenticator.stop()
        authenticator.stop()
        assert gets_in(context, opened, **curve(keys))
        assert not gets_in(context, by_name, **plain(b"user", b"secret"))
        expected = {
            f"{endpoint_of(closed)} lets no peer in",
            f"{endpoint_of(opened)} lets every peer in",
            f"{endpoint_of(by_name)} lets no peer in",
        }
    other.term()
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    texts = [record.getMessage().partition(" stops, and ")[2] for record in caplog.records]
    assert len(texts) == 3
    assert set(texts) == expected


def test_it_stops_beside_a_source_whose_socket_has_no_context(context):
    original = context.socket(zmq.PULL)
    shadow = Source(zmq.Socket(shadow=int(original.underlying)))
    authenticator = authenticator_of(context)
    authenticator.start()
    authenticator.stop()
    assert not authenticator.started
    shadow.close()


def test_a_stop_in_a_callback_of_the_hub_that_would_have_to_wait_changes_nothing(context):
    go_on = Event()
    auth = Authenticator(context)
    auth.start()
    auth.configure_plain(passwords=lambda *_: go_on.wait())
    with server_of(context, **PLAIN) as server, client_of(context, server) as (client,):
        client.send(b"in")
        wait_until(lambda: len(auth._pool))
        with pytest.raises(BlockingSwitchOutError, match=r"gevent\.spawn\(authenticator\.stop\)"):
            in_the_hub(auth.stop)
        go_on.set()
        assert server.recv(timeout=10) == [b"in"]
        wait_until(lambda: not len(auth._pool))
        in_the_hub(auth.stop)
        assert not auth.started
