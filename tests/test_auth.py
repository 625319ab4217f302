"""`Authenticator`: who gets in by PLAIN, by CURVE and by address, and who does not."""

import logging
import os
from typing import Any

import gevent
import pytest
import zmq
import zmq.auth
from authentication import CURVE, IMPATIENT, PLAIN, client_of, curve, gets_in, plain, server_of
from gevent.event import AsyncResult, Event
from gevent.queue import Empty
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.auth import Authenticator, AuthStats
from gzmqsource.auth._addresses import Networks, network
from gzmqsource.monitor import Monitor
from gzmqsource.testing import all_blocked, wait_until


@pytest.fixture
def errors():
    return []


@pytest.fixture
def auth(context, errors):
    with Authenticator(context, on_error=lambda *error: errors.append(error)) as auth:
        yield auth


def test_plain_lets_in_who_knows_the_password(context, auth):
    auth.configure_plain(passwords={"user": "secret", "käse": "brötchen"})
    with server_of(context, **PLAIN) as server:
        assert gets_in(context, server, **plain(b"user", b"secret"))
        assert gets_in(context, server, **plain("käse".encode(), "brötchen".encode()))
        assert not gets_in(context, server, **plain(b"user", b"wrong"))
        assert not gets_in(context, server, **plain(b"nobody", b"secret"))
        assert not gets_in(context, server, **plain(b"user\xff", b"\xfe"))
        assert not gets_in(context, server)
    assert auth.stats() == AuthStats(accepted=2, refused=3, postponed=0, malformed=0)


def test_curve_lets_in_the_keys_of_a_directory_as_last_reloaded(context, auth, tmp_path):
    files = [zmq.auth.create_certificates(tmp_path, name) for name in ("one", "two")]
    one, two = (zmq.auth.load_certificate(secret) for _, secret in files)
    auth.configure_curve(location=tmp_path)
    with server_of(context, **CURVE) as server:
        assert gets_in(context, server, **curve(one))
        assert gets_in(context, server, **curve(two))
        assert not gets_in(context, server, **curve(zmq.curve_keypair()))
        os.unlink(files[0][0])
        assert gets_in(context, server, **curve(one))
        auth.reload()
        assert not gets_in(context, server, **curve(one))
        assert gets_in(context, server, **curve(two))


def test_a_reload_that_fails_changes_nothing(context, auth, tmp_path):
    _, secret = zmq.auth.create_certificates(tmp_path, "one")
    auth.configure_curve(location=str(tmp_path))
    for content in ("nothing here", 'public-key = "short"', "public-key", f"public-key={'~' * 40}"):
        (tmp_path / "two.key").write_text(content)
        with pytest.raises(ValueError, match="public key"):
            auth.reload()
    with server_of(context, **CURVE) as server:
        assert gets_in(context, server, **curve(zmq.auth.load_certificate(secret)))
    with pytest.raises(OSError, match="directory"):
        auth.configure_curve(location=tmp_path / "none")


def test_a_named_pipe_among_the_keys_is_an_error(context, auth, tmp_path, capfd):
    zmq.auth.create_certificates(tmp_path, "one")
    auth.configure_curve(location=tmp_path)
    os.mkfifo(tmp_path / "two.key")
    with pytest.raises(ValueError, match=r"two.key is not a file"):
        auth.reload()
    assert capfd.readouterr() == ("", "")  # of the native thread


def test_any_key_will_do_if_one_says_so(context, auth):
    auth.configure_curve()
    with server_of(context, **CURVE) as server:
        assert gets_in(context, server, **curve(zmq.curve_keypair()))
        assert not gets_in(
            context,
            server,
            **(curve(zmq.curve_keypair()) | {"curve_serverkey": zmq.curve_keypair()[0]}),
        )


def test_nothing_gets_in_that_was_not_configured(context, auth):
    auth.configure_plain("other", {"user": "secret"})
    with server_of(context, **PLAIN) as server:
        assert not gets_in(context, server, **plain(b"user", b"secret"))
    with server_of(context, **CURVE) as server:
        assert not gets_in(context, server, **curve(zmq.curve_keypair()))
    assert auth.stats().refused == 2


def test_a_domain_has_its_own_rule_or_the_common_one(context, auth):
    auth.configure_plain("site", {"user": "site"})
    auth.configure_plain("*", {"user": "common"})
    with server_of(context, **PLAIN) as server:
        assert gets_in(context, server, **plain(b"user", b"site"))
        assert not gets_in(context, server, **plain(b"user", b"common"))
    with server_of(context, **PLAIN | {"zap_domain": b"elsewhere"}) as server:
        assert gets_in(context, server, **plain(b"user", b"common"))


def test_a_rule_that_is_an_empty_collection_is_the_rule_of_its_domain(context, auth):
    class Users(dict):
        def __call__(self, _domain, name, password):
            return self.get(name) == password

    auth.configure_plain("site", users := Users())
    auth.configure_plain("*", {"user": "common"})
    with server_of(context, **PLAIN) as server:
        assert not gets_in(context, server, **plain(b"user", b"common"))
        users["user"] = "site"
        assert gets_in(context, server, **plain(b"user", b"site"))


@pytest.mark.parametrize(
    ("allowed", "denied", "passes"),
    [
        ([], [], True),
        (["127.0.0.1"], [], True),
        (["127.0.0.0/8", "::1"], [], True),
        (["10.0.0.0/8", "10.1.2.3"], [], False),
        ([], ["127.0.0.1"], False),
        (["127.0.0.1"], ["127.0.0.0/16"], False),
        ([], ["10.0.0.1", "ipc"], True),
        ([], ["::ffff:127.0.0.1"], False),
        ([], ["0:0:0:0:0:FFFF:7f00:1"], False),
        ([], ["::ffff:127.0.0.0/104"], False),
        ([], ["::/0"], False),
        ([], ["::ffff:10.0.0.1", "::127.0.0.1", "::1"], True),
        ([], ["::7f00:1"], True),
        (["::ffff:127.0.0.0/104"], [], True),
        (["::ffff:10.0.0.0/104"], [], False),
    ],
)
def test_addresses_are_allowed_and_denied(context, auth, allowed, denied, passes):
    auth.allow(*allowed)
    auth.deny(*denied)
    with server_of(context, zap_domain=b"site") as server:
        assert gets_in(context, server) == passes


@pytest.mark.once
def test_thousands_of_rules_are_looked_up_by_their_lengths():
    networks = Networks()
    assert not networks
    networks.add(
        map(network, (f"10.{high}.{low}.0/24" for high in range(40) for low in range(250)))
    )
    networks.add([network("fd00::/8"), network("192.168.1.1")])
    assert networks
    assert len(networks._networks) == 3
    assert "10.39.249.7" in networks
    assert "::ffff:10.0.0.1" in networks
    assert "fd12::1" in networks
    assert "192.168.1.1" in networks
    for address in "10.40.0.1", "192.168.1.2", "fe80::1", "localhost:0:0:1":
        assert address not in networks


@pytest.mark.parametrize("denied", ["127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:0.0.0.0/96"])
def test_an_ipv4_peer_of_an_ipv6_socket_has_its_ipv4_address(context, auth, denied):
    with server_of(context, zap_domain=b"site", ipv6=1) as server:
        server.socket.bind("tcp://[::]:*")
        port = endpoint_of(server).rpartition(":")[2]
        client = Source.open(zmq.PUSH, context=context, linger=0)
        auth.deny(denied)
        with Monitor(client) as monitor:
            client.socket.connect(f"tcp://127.0.0.1:{port}")
            event = next(event for event in monitor if event.name.startswith("handshake"))
        client.close()
        assert event.name == "handshake_failed_auth"


def test_a_peer_over_ipc_is_allowed_as_such(context, auth, tmp_path):
    with server_of(context, zap_domain=b"site") as server:
        server.socket.bind(f"ipc://{tmp_path}/socket")
        assert gets_in(context, server)
        auth.allow("127.0.0.1")
        assert not gets_in(context, server)
        auth.allow("ipc")
        assert gets_in(context, server)
        auth.deny("ipc")
        assert not gets_in(context, server)


def test_an_address_is_checked_when_it_is_given(auth):
    addresses: tuple[Any, ...] = ("localhost", "", "10.0.0.1/33", "010.0.0.1", "10.1", "fe80::1%lo")
    for address in (*addresses, b"127.0.0.1", None):
        for call in (auth.allow, auth.deny):
            with pytest.raises(ValueError, match=r"does not appear to be|leave out|is a str"):
                call("127.0.0.1", address)
    assert not auth._allowed
    assert not auth._denied


def test_the_handler_learns_who_it_is(context, auth):
    keys = zmq.curve_keypair()
    auth.configure_plain(passwords={"user": "secret"})
    auth.configure_curve("site", lambda domain, key: f"{domain}/{key[:4].decode()}")
    for options, credentials, user in (
        (PLAIN, plain(b"user", b"secret"), "user"),
        (CURVE, curve(keys), f"site/{keys[0][:4].decode()}"),
    ):
        with server_of(context, **options) as server:
            server.close()
        server = Source.open(
            zmq.PULL, bind="tcp://127.0.0.1:*", context=context, copy=False, **options
        )
        client = Source.open(
            zmq.PUSH, connect=endpoint_of(server), context=context, linger=0, **credentials
        )
        client.send(b"x")
        assert server.recv(timeout=10)[0].get("User-Id") == user
        client.close()
        server.close()


def test_a_slow_rule_delays_nobody_else(context, auth):
    reached, go_on = Event(), Event()

    def rule(domain, username, password):
        if username == "slow":
            reached.set()
            go_on.wait()
        return True

    auth.configure_plain(passwords=rule)
    with server_of(context, **PLAIN) as server:
        slow = gevent.spawn(gets_in, context, server, **plain(b"slow", b"x"))
        reached.wait()
        assert gets_in(context, server, **plain(b"quick", b"x"))
        assert not slow.ready()
        go_on.set()
        assert slow.get(timeout=10)


def test_what_a_rule_has_yet_to_do_lets_nobody_in(context, auth, errors):
    """Each of these is true."""

    async def to_be_awaited():
        return False

    coroutines = []

    def hidden(*_):
        coroutines.append(to_be_awaited())
        return coroutines[-1]

    def generated(*_):
        return iter(())

    rules: list[Any] = [hidden, lambda *_: AsyncResult(), generated, lambda *_: []]
    for rule in rules:
        auth.configure_plain(passwords=rule)
        with server_of(context, **PLAIN, **IMPATIENT) as server:
            assert not gets_in(context, server, **plain(b"user", b"secret"))
    assert {type(error) for error, _ in errors} == {TypeError}
    assert "a rule returned <coroutine>" in str(errors[0][0])
    assert auth.stats().accepted == 0
    for each in coroutines:
        each.close()


def test_a_rule_that_raises_puts_the_peer_off_until_it_works_again(context, auth, errors):
    def be_late():
        with gevent.Timeout(0.01):
            gevent.sleep(10)

    def be_killed():
        raise gevent.GreenletExit

    acts: Any = iter([lambda: 1 / 0, be_late, be_killed])

    def rule(domain, username, password):
        return next(acts, lambda: True)()

    auth.configure_plain(passwords=rule)
    with server_of(context, **PLAIN, **IMPATIENT) as server:
        client = Source.open(
            zmq.PUSH,
            connect=endpoint_of(server),
            context=context,
            linger=0,
            reconnect_ivl=1,
            **plain(b"user", b"secret"),
        )
        client.send(b"in")
        assert server.recv(timeout=20) == [b"in"]
        client.close()
    assert [(type(error), message) for error, message in errors] == [
        (ZeroDivisionError, None),
        (gevent.Timeout, None),
    ]
    stats = auth.stats()
    assert (stats.refused, stats.postponed, stats.malformed) == (0, 3, 0)
    assert stats.accepted >= 1  # a second time if it has missed the first


def test_a_socket_that_was_refused_does_not_try_again_and_a_new_one_gets_in(context, auth):
    may_enter = False
    auth.configure_plain(passwords=lambda *_: may_enter)
    known = plain(b"user", b"secret")
    with (
        server_of(context, **PLAIN) as server,
        Source.open(zmq.PUSH, context=context, linger=0, reconnect_ivl=1, **known) as client,
        Monitor(client) as monitor,
    ):
        client.socket.connect(endpoint_of(server))
        monitor.wait_for("handshake_failed_auth", timeout=10)
        monitor.wait_for("disconnected", timeout=10)
        may_enter = True
        for _ in range(5):
            assert gets_in(context, server, **known)
        with pytest.raises(Empty):
            monitor.recv(timeout=0)
    assert auth.stats() == AuthStats(accepted=5, refused=1, postponed=0, malformed=0)


def test_a_name_that_cannot_be_encoded_puts_the_peer_off(context, auth, errors):
    auth.configure_plain(passwords=lambda *_: "\udc80")
    with server_of(context, **PLAIN | IMPATIENT) as server, client_of(context, server):
        wait_until(lambda: errors)
    assert isinstance(errors[0][0], UnicodeError)
    assert auth.stats().accepted == 0
    assert auth.stats().postponed > 0


def test_too_many_rules_at_a_time_put_the_next_peer_off(context, monkeypatch):
    monkeypatch.setattr(Authenticator, "max_rules", 1)
    go_on = Event()
    with Authenticator(context) as auth, server_of(context, **PLAIN) as server:
        auth.configure_plain(passwords=lambda *_: go_on.wait())
        first = gevent.spawn(gets_in, context, server, **plain(b"user", b"x"))
        wait_until(lambda: not auth._pool.free_count())
        with client_of(context, server):
            wait_until(lambda: auth.stats().postponed)
        go_on.set()
        assert first.get(timeout=10)
        assert auth.stats() == AuthStats(accepted=1, refused=0, postponed=1, malformed=0)


def test_no_password_is_logged(context, auth, errors, caplog):
    caplog.set_level(logging.DEBUG)
    with server_of(context, **PLAIN) as server:
        auth.configure_plain(passwords={"user": "rightword"})
        assert gets_in(context, server, **plain(b"user", b"rightword"))
        assert not gets_in(context, server, **plain(b"user", b"wrongword"))
        auth.configure_plain(passwords=lambda *_: 1 / 0)
        with client_of(context, server, b"otherword"):
            wait_until(lambda: errors)
    assert "PLAIN from '127.0.0.1' for domain 'site'" in caplog.text
    assert errors
    for text in (caplog.text, repr(errors), repr(auth)):
        assert "word" not in text


def test_a_context_has_one_authenticator(context, auth):
    assert auth.started
    other = Authenticator(context)
    with pytest.raises(ValueError, match="has an authenticator already"):
        other.start()
    auth.start()
    auth.stop()
    auth.stop()
    other.start()
    assert "started" in repr(other)
    other.stop()
    assert "stopped" in repr(other)


def test_its_stop_ends_a_rule_that_hangs(context, auth):
    hanging, ended = Event(), Event()

    def rule(*_):
        hanging.set()
        try:
            Event().wait()
        finally:
            ended.set()

    auth.configure_plain(passwords=rule)
    with server_of(context, **PLAIN) as server, client_of(context, server):
        assert hanging.wait(10)
        auth.stop(0.01)
        assert ended.wait(10)
    assert auth.stats().accepted == 0


def test_its_stop_does_not_wait_for_what_a_rule_does_when_it_is_killed(context, auth):
    hanging, go_on, ended = Event(), Event(), Event()

    def rule(*_):
        try:
            hanging.set()
            Event().wait()
        finally:
            go_on.wait()
            ended.set()

    auth.configure_plain(passwords=rule)
    with server_of(context, **PLAIN) as server, client_of(context, server):
        assert hanging.wait(10)
        with gevent.Timeout(10):
            auth.stop(0.01)
        assert not auth.started
        assert not ended.is_set()
        go_on.set()
        assert ended.wait(10)


@pytest.mark.parametrize("configure", ["configure_plain", "configure_curve"])
def test_a_rule_in_place_of_the_domain_is_an_error_that_says_what_to_do(configure, context):
    authenticator = Authenticator(context)
    with pytest.raises(TypeError, match="a ZAP domain is a str; name the other arguments"):
        getattr(authenticator, configure)({"ann": "secret"})


def test_a_stop_that_was_killed_can_be_made_again(context, auth):
    hanging = Event()

    def rule(*_):
        hanging.set()
        Event().wait()

    auth.configure_plain(passwords=rule)
    with server_of(context, **PLAIN) as server, client_of(context, server):
        assert hanging.wait(10)
        stopping = [gevent.spawn(lambda: auth.stop(60)) for _ in range(3)]
        all_blocked()
        gevent.killall(stopping)
        assert auth.started
        stopping = [gevent.spawn(lambda: auth.stop(0.01)) for _ in range(3)]
        gevent.joinall(stopping, timeout=10, raise_error=True)
        assert not auth.started
