"""Who may connect, by the options: what the table of ``docs/security.rst`` says is what happens."""

import contextlib
import itertools
import os
import pathlib
import re
from typing import Any

import gevent
import pytest
import zmq
import zmq.auth
from authentication import curve, gets_in_at, plain, shakes_hands
from click.testing import CliRunner
from command_under_test import run, running
from gevent import subprocess
from helpers import endpoint_of, free_ports

from gzmqsource import Source
from gzmqsource.auth import Authenticator
from gzmqsource.cli import _pipes, _send, _serve, _watch
from gzmqsource.monitor import Monitor

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "security.rst"

OPTIONS = (
    "--plain-user",
    "--plain-password",
    "--curve-key",
    "--curve-clients",
    "--curve-server-key",
)

#: All of their combinations.
COMBINATIONS = [
    frozenset(each) for size in range(6) for each in itertools.combinations(OPTIONS, size)
]

#: Which of the peers below get in, by what the table says.
GET_IN = {
    "every peer without a mechanism": {"null"},
    "that user with that password": {"user"},
    "every server with PLAIN": {"plain server"},
    "every key, if the peer knows the public key": {"friend", "stranger"},
    "the keys in the directory": {"friend"},
    "the server with that key": {"server"},
}

#: Those that are the server of their mechanism. Two servers would wait for each other.
SERVERS = {"plain server", "server", "impostor"}

REFUSED = "refused at start"


def table():
    """Return what the table says of each combination: with --bind, and with --connect alone."""
    rows = re.findall(r"^   \* - (.*)\n     - (.*)\n     - (.*)\n", PAGE.read_text(), re.MULTILINE)
    said = {options: (bind, connect) for options, bind, connect in rows[1:]}
    others = said.pop("any other combination")
    named = {frozenset(re.findall(r"--[a-z-]+", options)): said[options] for options in said}
    assert named.keys() <= set(COMBINATIONS)
    return {each: named.get(each, others) for each in COMBINATIONS}


SAID = table()
OPEN = [
    pytest.param(each, side, id=f"{' '.join(sorted(each))} {('bind', 'connect')[side]}")
    for each in COMBINATIONS
    for side in (0, 1)
    if SAID[each][side] != REFUSED
]


class Keys:
    """The files and keys of all that take part."""

    def __init__(self, folder):
        self.folder = folder
        for directory, name in ("own", "own"), ("friends", "friend"), ("server", "server"):
            (folder / directory).mkdir()
            zmq.auth.create_certificates(folder / directory, name)
        self.own, self.friend, self.server = (
            zmq.auth.load_certificate(folder / name)
            for name in ("own/own.key_secret", "friends/friend.key_secret", "server/server.key")
        )

    def arguments(self, options):
        values = {
            "--plain-user": "ann",
            "--plain-password": "secret",
            "--curve-key": self.folder / "own/own.key_secret",
            "--curve-clients": self.folder / "friends",
            "--curve-server-key": self.folder / "server/server.key",
        }
        return [str(each) for name in sorted(options) for each in (name, values[name])]

    def peers(self):
        """Return the options of the peers' sockets, by what they are."""

        def client(keys, server=self.own[0]):
            return {**curve(keys), "curve_serverkey": server}

        server = zmq.auth.load_certificate(self.folder / "server/server.key_secret")[1]
        impostor = zmq.curve_keypair()[1]
        return {
            "null": {},
            "user": plain(b"ann", b"secret"),
            "other word": plain(b"ann", b"Secret"),
            "other user": plain(b"bob", b"secret"),
            "plain server": {"plain_server": True},
            "friend": client(self.friend),
            "stranger": client(zmq.curve_keypair()),
            "lost friend": client(self.friend, zmq.curve_keypair()[0]),
            "server": {"curve_server": True, "curve_secretkey": server},
            "impostor": {"curve_server": True, "curve_secretkey": impostor},
        }

    def peers_like(self, those):
        """Return the peers that are servers as *those* are, or none, as those are not."""
        are_servers = bool(those & SERVERS)
        return {
            name: options
            for name, options in self.peers().items()
            if name == "null" or (name in SERVERS) is are_servers
        }


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path)


@pytest.fixture
def lenient(context):
    """What the peers of this process that are servers ask: everybody may come."""
    with Authenticator(context) as authenticator:
        authenticator.configure_curve()
        authenticator.configure_plain(passwords=lambda *_: True)
        yield


#: Milliseconds after which two servers, or two clients, give up to wait for each other.
SHAKE: dict[str, Any] = {"handshake_ivl": 4000}


def who_gets_in(context, endpoint, peers):
    """Return the names of those that get in at an endpoint, all at the same time."""
    tries = {
        name: gevent.spawn(gets_in_at, context, endpoint, zmq.DEALER, **options, **SHAKE)
        for name, options in peers.items()
    }
    gevent.joinall([*tries.values()], raise_error=True)
    return {name for name, each in tries.items() if each.value}


@pytest.mark.parametrize(("options", "side"), [each for each in OPEN if each.values[1] == 0])
@pytest.mark.parametrize("verb", ["serve", "recv", "proxy"])
def test_a_verb_that_binds_lets_in_whom_the_table_names(
    verb, options, side, context, keys, lenient
):
    first, second = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    arguments = {
        "serve": ["json:dumps", "--bind", first],
        "recv": ["--type", "dealer", "--bind", first],
        "proxy": [first, second],
    }[verb]
    command = (verb, *arguments, *keys.arguments(options))
    with running(*command):
        for endpoint in (first, second) if verb == "proxy" else (first,):
            allowed = GET_IN[SAID[options][side]]
            assert who_gets_in(context, endpoint, keys.peers_like(allowed)) == allowed


@pytest.mark.parametrize(("options", "side"), [each for each in OPEN if each.values[1] == 1])
@pytest.mark.parametrize("verb", ["serve", "recv"])
def test_a_verb_that_connects_accepts_whom_the_table_names(
    verb, options, side, context, keys, lenient
):
    arguments = {"serve": ["json:dumps"], "recv": ["--type", "dealer"]}[verb]
    found, allowed = {}, GET_IN[SAID[options][side]]
    with contextlib.ExitStack() as stack:
        for name, peer in keys.peers_like(allowed).items():
            source = Source.open(zmq.DEALER, context=context, linger=0, **peer, **SHAKE)
            stack.callback(source.close)
            monitor = stack.enter_context(Monitor(source))
            source.socket.bind("tcp://127.0.0.1:*")
            arguments += ["--connect", endpoint_of(source)]
            found[name] = gevent.spawn(shakes_hands, monitor)
        stack.enter_context(running(verb, *arguments, *keys.arguments(options)))
        gevent.joinall([*found.values()], raise_error=True)
    accepted = {name for name, each in found.items() if each.value}
    assert accepted == allowed


#: The verbs that the table is about, with an endpoint that they bind, or connect.
VERBS = {
    "serve": (_serve.serve, ["--no-patch", "json:dumps"], "--bind", "--connect"),
    "recv": (_pipes.recv, [], "--bind", "--connect"),
    "send": (_send.send, ["x"], "--bind", "--connect"),
    "request": (_pipes.request, ["x"], "--bind", "--connect"),
    "monitor": (_watch.monitor, [], "--bind", "--connect"),
    "proxy": (_watch.proxy, ["tcp://127.0.0.1:*"], None, ""),
}


def refusal(verb, endpoint, arguments, side=0, env=None):
    """Return the error of a verb that is refused at start, and has opened nothing."""
    command, more, *how = VERBS[verb]
    endpoint = endpoint.replace("*", "5555") if how[side] == "--connect" else endpoint
    where = [how[side], endpoint] if how[side] else [endpoint]
    with gevent.Timeout(20):  # one that is not refused serves
        finished = CliRunner().invoke(command, [*more, *where, *arguments], env=env)
    assert finished.exit_code == 2, (verb, arguments, finished.output)
    return finished.output


@pytest.mark.parametrize("verb", VERBS)
def test_every_other_combination_is_refused_with_the_options_and_the_rule(verb, keys):
    refused = 0
    for options, side in itertools.product(COMBINATIONS, (0, 1)):
        if SAID[options][side] == REFUSED and not (verb == "proxy" and side == 1):
            text = refusal(verb, "tcp://127.0.0.1:*", keys.arguments(options), side)
            assert re.search(r"Error: .*--(plain|curve)-", text), text
            refused += 1
    assert refused == (27 if verb == "proxy" else 27 + 28)


LONG = "x" * 256


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("user", "password", "text"),
    [
        ("", "secret", "--plain-user has 0 bytes"),
        ("ann", "", "--plain-password has 0 bytes"),
        (LONG, "secret", "--plain-user has 256 bytes"),
        ("ann", LONG, "--plain-password has 256 bytes"),
        ("ann\udcff", "secret", "--plain-user is not UTF-8"),
    ],
)
def test_a_name_or_a_password_that_libzmq_would_not_take_is_refused(verb, user, password, text):
    arguments = ["--plain-user", user, "--plain-password", password]
    assert text in refusal(verb, "tcp://127.0.0.1:*", arguments)


@pytest.mark.parametrize("verb", VERBS)
def test_a_password_in_the_environment_without_a_user_is_refused(verb):
    word = {"GZMQSOURCE_PLAIN_PASSWORD": "secret"}
    text = refusal(verb, "tcp://127.0.0.1:*", [], env=word)
    assert "GZMQSOURCE_PLAIN_PASSWORD" in text
    assert "needs --plain-user" in text


@pytest.mark.parametrize("verb", VERBS)
def test_an_endpoint_where_libzmq_asks_nobody_is_refused(verb, keys):
    for options in ({"--plain-user", "--plain-password"}, {"--curve-key", "--curve-clients"}):
        text = refusal(verb, "inproc://x", keys.arguments(options))
        assert "inproc://x: PLAIN and CURVE are for tcp:// and ipc://" in text


def test_a_refused_server_does_not_start(address):
    finished = run("serve", "json:dumps", "--bind", address, "--plain-password", "secret")
    assert finished.returncode == 2
    assert b"needs --plain-user" in finished.stderr


@pytest.mark.parametrize("bad", ["nothing", "public-key", 'public-key = "short"', None])
def test_a_bad_file_of_keys_is_refused_and_named(bad, tmp_path, address):
    run("keygen", tmp_path, "--name", "own")
    file = tmp_path / "bad.key"
    if bad is None:
        file.mkdir()
    else:
        file.write_text(bad)
    own = ("--curve-key", tmp_path / "own.key_secret", "--curve-clients", tmp_path)
    for options in (own, ("--curve-key", file)):
        finished = run("recv", "--bind", address, *options)
        assert finished.returncode in (1, 2)
        assert b"Traceback" not in finished.stderr
        assert str(tmp_path).encode() in finished.stderr


@pytest.mark.parametrize("verb", ["serve", "recv", "proxy"])
def test_a_hangup_reads_the_keys_of_clients_again(verb, context, keys, address):
    back = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    arguments = {"serve": ["json:dumps", "--bind"], "recv": ["--type", "dealer", "--bind"]}
    command = (verb, *arguments.get(verb, [back]), address)
    new = zmq.auth.load_certificate(zmq.auth.create_certificates(keys.folder, "new")[1])
    friends = keys.folder / "friends"
    peers = {
        "friend": keys.peers()["friend"],
        "new": {**curve(new), "curve_serverkey": keys.own[0]},
    }
    with running(
        *command,
        *keys.arguments({"--curve-key", "--curve-clients"}),
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:

        def hang_up(text):
            process.send_signal(1)
            assert any(text in line for line in iter(process.stderr.readline, ""))

        assert who_gets_in(context, address, peers) == {"friend"}
        (keys.folder / "new.key").rename(friends / "new.key")
        (friends / "bad.key").write_text("public-key\n")
        hang_up("the same keys as before are accepted")
        assert who_gets_in(context, address, peers) == {"friend"}
        (friends / "bad.key").unlink()
        (friends / "friend.key").unlink()
        hang_up("was read again")
        assert who_gets_in(context, address, peers) == {"new"}
