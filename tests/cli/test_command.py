"""What all verbs have in common: help, errors, and who is let in."""

import pytest
import zmq
from command_under_test import COMMAND, run, running
from gevent import subprocess
from helpers import closing
from optional import needs

from gzmqsource import Source
from gzmqsource.cli._command import _VERBS

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

DRAWS = needs("matplotlib", extra="plot")


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help_with_an_example(verb):
    finished = run(verb, "--help")
    assert finished.returncode == 0
    assert b"Example:\n    " in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["send", "x"], "no endpoint: use --bind URL"),
        (["recv", "--connect", "nonsense"], "it has no transport"),
        (["recv", "--connect", "tcp://127.0.0.1:80000"], "a port is a number from 1 to 65535"),
        (["recv", "--type", "push", "--bind", "tcp://127.0.0.1:*"], "'push' is not one of"),
        (["send", "--type", "router", "--bind", "tcp://127.0.0.1:*", "x"], "the peer's routing id"),
        (["send", "--type", "router", "--bind", "tcp://*:*", "--frame", "x", "y"], "Host unreach"),
        (["recv", "--type", "rop", "--bind", "tcp://127.0.0.1:*"], "'rop' is not one of"),
        (["recv", "--subscribe", "x", "--bind", "tcp://127.0.0.1:*"], "--type sub"),
        (["serve", "nothing", "--bind", "tcp://127.0.0.1:*"], "MODULE:FUNCTION"),
        (["serve", "no_such_module:x", "--bind", "tcp://127.0.0.1:*"], "no module"),
        (["serve", "json:no_such", "--bind", "tcp://127.0.0.1:*"], "json has no no_such"),
        (["serve", "json:__doc__", "--bind", "tcp://127.0.0.1:*"], "cannot be called"),
        (["serve", "asyncio:sleep", "--bind", "tcp://127.0.0.1:*"], "is a coroutine function"),
        (["send", "--json", "--connect", "tcp://127.0.0.1:1", "5"], "message 1: a frame is"),
        (["send", "--curve-server-key", __file__, "--connect", "tcp://[::1]:1"], "--curve-key"),
        (["send", "--plain-user", "me", "--connect", "tcp://[::1]:1"], "--plain-password"),
        (["send", "--curve-clients", "/", "--connect", "tcp://[::1]:1"], "is for a server"),
        (["top", "nonsense"], "is neither a port"),
        pytest.param(["bench", "--plot", "/no/x.svg"], "/no: cannot write there", marks=DRAWS),
        pytest.param(["bench", "--plot", "rates.txt"], "the suffix is not one of", marks=DRAWS),
    ],
)
def test_a_wrong_command_is_a_line_that_tells_what_is_wrong(arguments, text):
    finished = run(*arguments)
    assert finished.returncode in (1, 2)
    assert text in finished.stderr.decode()
    assert "Traceback" not in finished.stderr.decode()


@pytest.mark.parametrize("verb", [["serve", "json:dumps"], ["recv"]])
def test_a_busy_port_is_named(verb, address, context):
    with closing(Source.open(zmq.PULL, bind=address, context=context)):
        finished = run(*verb, "--bind", address)
        assert finished.returncode == 1
        assert f"{address}: Address already in use" in finished.stderr.decode()


def test_a_full_disk_is_told_by_a_verb_that_only_tells_too():
    with open("/dev/full", "wb") as full:
        finished = run("doctor", stdout=full)
    assert finished.returncode == 1
    assert finished.stderr == b"gzmqsource: cannot write: No space left on device\n"


def test_a_file_that_may_not_grow_is_told_too(tmp_path):
    words = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *COMMAND, "doctor")
    with open(tmp_path / "report", "wb") as file:
        finished = subprocess.run(words, stdout=file, stderr=subprocess.PIPE, check=False)
    assert finished.returncode == 1
    assert finished.stderr == b"gzmqsource: cannot write: File too large\n"


def test_keys_let_in_who_has_them(address, tmp_path):
    for name in "server", "client":
        assert run("keygen", tmp_path, "--name", name).returncode == 0
    secret = tmp_path / "server.key_secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert run("keygen", tmp_path, "--name", "server").returncode == 1
    with running("recv", "--bind", address, "--curve-key", secret, "--count", 1) as receiving:
        client = ("--curve-key", tmp_path / "client.key_secret")
        server = ("--curve-server-key", tmp_path / "server.key")
        assert run("send", "--connect", address, *client, *server, "secret").returncode == 0
        assert receiving.stdout.readline() == "secret\n"


def test_a_server_lets_in_the_user_that_it_was_told(serving, address):
    credentials = ("--plain-user", "ann", "--plain-password")
    serving(*credentials, "secret")
    asking = ("request", "--connect", address, "--timeout")
    assert run(*asking, 20, *credentials, "secret", "x").stdout == b"old\tx\n"
    assert run(*asking, 1, *credentials, "wrong", "x").returncode == 1
    assert run(*asking, 1, "x").returncode == 1


def test_a_server_lets_in_the_keys_that_it_was_told(serving, address, tmp_path):
    for directory, name in ("keys", "server"), ("friends", "friend"), ("strangers", "stranger"):
        assert run("keygen", tmp_path / directory, "--name", name).returncode == 0
    own = ("--curve-key", tmp_path / "keys" / "server.key_secret")
    serving(*own, "--curve-clients", tmp_path / "friends")
    asking = ("request", "--connect", address, "--timeout")
    server = ("--curve-server-key", tmp_path / "keys" / "server.key")
    friend = ("--curve-key", tmp_path / "friends" / "friend.key_secret")
    stranger = ("--curve-key", tmp_path / "strangers" / "stranger.key_secret")
    assert run(*asking, 20, *server, *friend, "x").stdout == b"old\tx\n"
    assert run(*asking, 1, *server, *stranger, "x").returncode == 1
