"""The command, as a user runs it: in processes of its own, with pipes and signals."""

import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import textwrap
import urllib.request

import gevent
import pytest
import zmq
from gevent import subprocess
from gevent.queue import Empty
from gevent.socket import socket as Socket
from helpers import closing, endpoint_of, process_of

from gzmqsource import Source
from gzmqsource.cli.command import _VERBS
from gzmqsource.cli.text import FORMATS, from_json
from gzmqsource.cli.top import Reading, _quantile, _row
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester

pytestmark = pytest.mark.once

COMMAND = (sys.executable, "-m", "gzmqsource.cli")

HANDLER = """
import gevent
def answer(payload):
    gevent.sleep(0.02)
    return [b"{version}", *payload]
def fail(payload):
    raise KeyError("no such thing")
def block(payload):
    gevent.sleep(60)
"""


def run(*arguments, **options):
    """Run a verb to its end."""
    options = {"capture_output": True, "timeout": 20, "check": False, **options}
    return subprocess.run([*COMMAND, *map(str, arguments)], **options)


def free_port():
    with Socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def address():
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def serving(tmp_path, address):
    """Start ``serve`` with more arguments; gives its process."""
    path = tmp_path / "served.py"
    path.write_text(HANDLER.replace("{version}", "old"))
    stack = []

    def start(*arguments, target="served:answer"):
        process = process_of(
            *COMMAND,
            "serve",
            target,
            "--bind",
            address,
            *arguments,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        stack.append(process)
        started = process.__enter__()
        assert "pid" in started.stderr.readline()
        return started

    yield start
    for process in stack:
        process.__exit__(None, None, None)


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help_with_an_example(verb):
    finished = run(verb, "--help")
    assert finished.returncode == 0
    assert b"Example:\n    " in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["send", "x"], "where to?"),
        (["recv", "--connect", "nonsense"], "nonsense: Invalid argument"),
        (["recv", "--connect", "tcp://127.0.0.1:80000"], "a port is at most 65535"),
        (["recv", "--type", "push", "--bind", "tcp://127.0.0.1:*"], "'push' is not one of"),
        (["send", "--type", "router", "--bind", "tcp://127.0.0.1:*", "x"], "the peer's routing id"),
        (["send", "--type", "router", "--bind", "tcp://*:*", "--frame", "x", "y"], "Host unreach"),
        (["recv", "--type", "rop", "--bind", "tcp://127.0.0.1:*"], "'rop' is not one of"),
        (["recv", "--subscribe", "x", "--bind", "tcp://127.0.0.1:*"], "--type sub"),
        (["serve", "nothing", "--bind", "tcp://127.0.0.1:*"], "module:function"),
        (["serve", "no_such_module:x", "--bind", "tcp://127.0.0.1:*"], "no module"),
        (["serve", "json:no_such", "--bind", "tcp://127.0.0.1:*"], "json has no no_such"),
        (["serve", "json:__doc__", "--bind", "tcp://127.0.0.1:*"], "cannot be called"),
        (["send", "--json", "--connect", "tcp://127.0.0.1:1", "5"], "message 1: a frame is"),
        (["send", "--curve-server-key", __file__, "--connect", "tcp://[::1]:1"], "--curve-key"),
        (["send", "--plain-user", "me", "--connect", "tcp://[::1]:1"], "--plain-password"),
        (["send", "--curve-clients", "/", "--connect", "tcp://[::1]:1"], "is for a server"),
        (["top", "nonsense"], "nonsense: unknown url type"),
        (["bench", "--plot", "/no/where.svg"], "/no: cannot write there"),
        (["bench", "--plot", "rates.txt"], "a picture is one of"),
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


def test_lines_go_from_one_shell_to_another_as_they_are(address):
    lines = b"first\n\xff\x00binary\nlast without an end"
    with process_of(*COMMAND, "recv", "--bind", address, "--count", 3, "--format", "json") as got:
        assert run("send", "--connect", address, "--frame", "topic", input=lines).returncode == 0
        messages = [from_json(line.encode()) for line in got.stdout]
        assert got.wait(timeout=10) == 0
    assert messages == [[b"topic", line] for line in lines.split(b"\n")]


def test_files_and_json_are_sent_too(address, tmp_path, context):
    path = tmp_path / "file"
    path.write_bytes(b"\x00\n\xff")
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
        assert run("send", "--connect", address, "--file", path).returncode == 0
        assert source.recv(timeout=5) == [b"\x00\n\xff"]
        text = json.dumps(["text", {"hex": "00ff"}])
        assert run("send", "--connect", address, "--json", text).returncode == 0
        assert source.recv(timeout=5) == [b"text", b"\x00\xff"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("text", b"a\\x09b\\x0a\t\\xff\n"),
        ("hex", b"6109620a ff\n"),
        ("json", b'["a\\tb\\n", {"hex": "ff"}]\n'),
        ("raw", b"a\tb\n\xff"),
    ],
)
def test_each_format_is_safe_for_any_bytes(name, wanted):
    assert FORMATS[name]([b"a\tb\n", b"\xff"]) == wanted


def test_a_receiver_whose_reader_has_enough_ends_without_a_word(address, context):
    with (
        closing(Source.open(zmq.PUSH, bind=address, context=context, linger=0)) as (source,),
        process_of(*COMMAND, "recv", "--connect", address, stderr=subprocess.PIPE) as got,
    ):
        source.send(b"one")
        assert got.stdout.readline() == "one\n"
        got.stdout.close()
        source.send(b"two")
        assert got.wait(timeout=10) == 0
        assert got.stderr.read() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_is_an_error(address, context):
    with (
        closing(Source.open(zmq.PUSH, bind=address, context=context, linger=0)) as (source,),
        open("/dev/full", "wb") as full,
    ):
        source.send(b"one")
        finished = run(
            "recv", "--connect", address, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
        assert finished.returncode == 1
        assert b"cannot write: No space left" in finished.stderr


def test_a_full_disk_is_told_by_a_verb_that_only_tells_too():
    with open("/dev/full", "wb") as full:
        finished = run("doctor", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert finished.returncode == 1
    assert finished.stderr == b"gzmqsource: cannot write: No space left on device\n"


def test_a_receiver_that_gets_too_few_says_so_by_its_status(address):
    assert run("recv", "--bind", address, "--count", 1, "--timeout", 0.1).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sender_that_is_stopped_loses_nothing_it_has_read(number, address, context):
    with (
        closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,),
        process_of(*COMMAND, "send", "--connect", address) as sending,
    ):
        sending.stdin.write("one\n")
        sending.stdin.flush()
        assert source.recv(timeout=10) == [b"one"]
        sending.send_signal(number)
        assert sending.wait(timeout=10) == 0


@pytest.mark.parametrize("options", [["--hwm", 1], ["--rate", 0.01]], ids=["full", "slow"])
def test_a_sender_that_is_stopped_with_a_message_in_hand_sends_it_first(options, address, context):
    with process_of(*COMMAND, "send", "--bind", address, *options) as sending:
        for number in range(1002):  # the outbox has 1000
            sending.stdin.write(f"{number}\n")
        sending.stdin.flush()
        gevent.sleep(0.5)
        sending.send_signal(signal.SIGTERM)
        with closing(Source.open(zmq.PULL, connect=address, context=context)) as (source,):
            got = [int(source.recv(timeout=10)[0])]
            with contextlib.suppress(Empty):
                while True:
                    got.append(int(source.recv(timeout=0.5)[0]))
        assert sending.wait(timeout=10) == 0
        assert got == list(range(len(got)))
        # What it had read: a thousand in the outbox, and one in hand; or one that was sent.
        assert len(got) == (1001 if "--hwm" in options else 2)


def test_a_receiver_whose_output_nobody_reads_can_be_stopped(address, context):
    with (
        process_of(*COMMAND, "recv", "--connect", address, stderr=subprocess.PIPE) as receiving,
        closing(Source.open(zmq.PUSH, bind=address, context=context, linger=0)) as (source,),
    ):
        for _ in range(100):
            source.send(b"x" * 10_000)
        gevent.sleep(0.5)
        receiving.terminate()
        assert receiving.wait(timeout=10) == 1
        assert "nobody reads" in receiving.stderr.read()


def test_requests_are_answered_by_a_handler(serving, address):
    serving()
    finished = run("request", "--connect", address, "one", "two")
    assert (finished.returncode, finished.stdout) == (0, b"old\tone\nold\ttwo\n")


def test_a_handler_that_raises_is_told_to_who_asked(serving, address):
    serving(target="served:fail")
    finished = run("request", "--connect", address, "x")
    assert finished.returncode == 1
    assert "KeyError: 'no such thing'" in finished.stderr.decode()


def test_a_handler_that_takes_too_long_is_ended(serving, address):
    serving("--timeout", 0.05, target="served:block")
    finished = run("request", "--connect", address, "x")
    assert "Timeout: 0.05 seconds" in finished.stderr.decode()


def test_no_answer_in_time_is_an_error(address):
    finished = run("request", "--connect", address, "--timeout", 0.1, "x")
    assert finished.returncode == 1
    assert "no reply within 0.1 s" in finished.stderr.decode()


def test_a_server_told_to_stop_answers_what_it_has_accepted(serving, address, context):
    process = serving("--spawn", 300)
    with Requester.open(connect=address, context=context) as requester:
        asking = [gevent.spawn(requester.request, b"%d" % number, 10) for number in range(200)]
        asking[0].join(10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        gevent.joinall(asking, timeout=10)
        answers = [each.value for each in asking if each.successful()]
        assert answers == [[b"old", b"%d" % number] for number in range(200)]


def test_after_a_hangup_the_new_code_serves_and_no_request_is_lost(
    serving, address, context, tmp_path
):
    process = serving()
    with Requester.open(connect=address, context=context) as requester:
        assert requester.request(b"x", 10) == [b"old", b"x"]
        asking = [gevent.spawn(requester.request, b"y", 10) for _ in range(50)]
        (tmp_path / "served.py").write_text(HANDLER.replace("{version}", "new, and longer"))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: requester.request(b"x", 10) == [b"new, and longer", b"x"])
        gevent.joinall(asking, timeout=10)
        assert all(each.successful() for each in asking)
        (tmp_path / "served.py").write_text("this is no Python")
        process.send_signal(signal.SIGHUP)
        assert "loaded anew" in process.stderr.readline()
        assert "the old code goes on" in process.stderr.readline()
        assert requester.request(b"x", 10) == [b"new, and longer", b"x"]


def test_a_server_tells_its_numbers(serving, address):
    port = free_port()
    serving("--metrics", port)
    run("request", "--connect", address, "x")

    def read():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}") as answer:
            return answer.read().decode()

    assert "gzmqsource_received_messages_total{" in gevent.get_hub().threadpool.apply(read)


def test_the_table_of_a_server_follows_it_through_a_restart(serving, address):
    port = free_port()
    server = serving("--metrics", port)
    assert run("request", "--connect", address, "x").returncode == 0
    top = (*COMMAND, "top", port, "--interval", "0.2")
    with process_of(*top, stderr=subprocess.PIPE) as table:
        lines = iter(table.stdout.readline, "")
        row = next(line for line in lines if address in line).split()
        assert row[:2] == ["ROUTER", address]
        server.terminate()
        assert server.wait(timeout=10) == 0
        assert any("Connection refused" in line for line in lines)
        serving("--metrics", port)
        assert any(address in line for line in lines)
        table.terminate()
        assert table.wait(timeout=10) == 0


def test_no_server_for_the_table_is_an_error_and_enough_of_it_is_none(serving):
    port = free_port()
    finished = run("top", port)
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert f"http://127.0.0.1:{port}/metrics: Connection refused" in finished.stderr.decode()
    serving("--metrics", port)
    assert run("top", port, "--interval", "0.1", "--count", 2).stdout.count(b"endpoint") == 2


def test_a_table_tells_what_came_since_the_last():
    text = """
# TYPE gzmqsource_received_messages counter
gzmqsource_received_messages_total{{source="Source",type="PULL",endpoint="tcp://a"}} {received}
# TYPE gzmqsource_dropped_messages counter
gzmqsource_dropped_messages_total{{source="Source",type="PULL",endpoint="tcp://a",reason="x"}} 2
gzmqsource_dropped_messages_total{{source="Source",type="PULL",endpoint="tcp://a",reason="y"}} 3
# TYPE gzmqsource_hub_lateness_seconds histogram
gzmqsource_hub_lateness_seconds_bucket{{le="0.001"}} {soon}
gzmqsource_hub_lateness_seconds_bucket{{le="0.01"}} {soon}
gzmqsource_hub_lateness_seconds_bucket{{le="+Inf"}} {all}
"""
    first = Reading.of(text.format(received=1000, soon=100, all=100))
    second = Reading.of(text.format(received=3000, soon=200, all=200))
    third = Reading.of(text.format(received=500, soon=100, all=200))
    (labels,) = first.sources
    assert labels == ("PULL", "tcp://a")
    row = list(_row(first.sources[labels], second.sources[labels], 2))
    assert (row[0], row[5]) == ("1,000", "5")
    assert next(iter(_row(second.sources[labels], third.sources[labels], 1))) == "500"
    assert _quantile(first.lateness, second.lateness, 0.99) == "at most 1 ms"
    assert _quantile({}, third.lateness, 0.99) == "more than 10 ms"
    assert _quantile(first.lateness, first.lateness, 0.99) is None


def test_a_benchmark_gives_ratios_and_a_picture(tmp_path):
    picture = tmp_path / "rates.svg"
    finished = run("bench", "--count", 1000, "--runs", 1, "--plot", picture)
    assert finished.returncode == 0, finished.stderr
    text = finished.stdout.decode()
    for line in ("receive, 1 frame", "receive, 3 frames", "send, 1 frame", "send, 3 frames"):
        assert line in text
    assert picture.read_text().startswith("<?xml")


def test_jobs_are_handled_without_an_answer(serving, address, context):
    process = serving("--type", "pull", target="builtins:print")
    with Source.open(zmq.PUSH, connect=address, context=context) as source:
        source.send(b"job")
        assert process.stdout.readline() == "[b'job']\n"


def test_a_proxy_passes_requests(address, context):
    back = f"tcp://127.0.0.1:{free_port()}"
    with process_of(*COMMAND, "proxy", address, back, stderr=subprocess.PIPE) as process:
        assert "is served" in process.stderr.readline()
        with (
            closing(Source.open(zmq.DEALER, connect=back, context=context, linger=0)) as (worker,),
            closing(Source.open(zmq.DEALER, connect=address, context=context, linger=0)) as (asks,),
        ):
            asks.send(b"question")
            message = worker.recv(timeout=10)
            worker.send([*message[:-1], b"answer"])
            assert asks.recv(timeout=10) == [b"answer"]
        process.terminate()
        assert process.wait(timeout=10) == 0


def test_a_monitor_tells_what_happens(address, context):
    with closing(Source.open(zmq.ROUTER, bind=address, context=context)) as (source,):
        finished = run("monitor", "--connect", endpoint_of(source), "--count", 2)
        assert finished.returncode == 0
        assert b"connect" in finished.stdout.lower()


def test_keys_let_in_who_has_them(address, tmp_path):
    for name in "server", "client":
        assert run("keygen", tmp_path, "--name", name).returncode == 0
    secret = tmp_path / "server.key_secret"
    assert secret.stat().st_mode & 0o077 == 0
    assert run("keygen", tmp_path, "--name", "server").returncode == 1
    with process_of(
        *COMMAND, "recv", "--bind", address, "--curve-key", secret, "--count", 1
    ) as receiving:
        client = ("--curve-key", tmp_path / "client.key_secret")
        server = ("--curve-server-key", tmp_path / "server.key")
        assert run("send", "--connect", address, *client, *server, "secret").returncode == 0
        assert receiving.stdout.readline() == "secret\n"


def test_a_server_lets_in_the_user_that_it_was_told(serving, address):
    credentials = ("--plain-user", "ann", "--plain-password")
    serving(*credentials, "secret")
    asking = ("request", "--connect", address, "--timeout", 1)
    assert run(*asking, *credentials, "secret", "x").stdout == b"old\tx\n"
    assert run(*asking, *credentials, "wrong", "x").returncode == 1
    assert run(*asking, "x").returncode == 1


def test_a_server_lets_in_the_keys_that_it_was_told(serving, address, tmp_path):
    for directory, name in ("keys", "server"), ("friends", "friend"), ("strangers", "stranger"):
        assert run("keygen", tmp_path / directory, "--name", name).returncode == 0
    own = ("--curve-key", tmp_path / "keys" / "server.key_secret")
    serving(*own, "--curve-clients", tmp_path / "friends")
    asking = ("request", "--connect", address, "--timeout", 1)
    server = ("--curve-server-key", tmp_path / "keys" / "server.key")
    friend = ("--curve-key", tmp_path / "friends" / "friend.key_secret")
    stranger = ("--curve-key", tmp_path / "strangers" / "stranger.key_secret")
    assert run(*asking, *server, *friend, "x").stdout == b"old\tx\n"
    assert run(*asking, *server, *stranger, "x").returncode == 1


def test_what_the_readme_types_into_a_shell_works(tmp_path):
    readme = (pathlib.Path(__file__).parents[2] / "README.rst").read_text()
    (script,) = re.findall(r"^\.\. code-block:: bash\n\n((?:    .*\n|\n)+)", readme, re.MULTILINE)
    finished = subprocess.run(
        ["bash", "-e", "-m", "-c", textwrap.dedent(script).replace("5557", str(free_port()))],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, b"hello\tdear\tworld\n"), finished.stderr


def test_the_doctor_tells_what_is_in_use():
    finished = run("doctor", env=os.environ | {"GZMQSOURCE_TRANSFER": "pure"})
    assert finished.returncode == 0
    text = finished.stdout.decode()
    assert "pure: GZMQSOURCE_TRANSFER=pure" in text
    assert "! the transfer in Python is slower" in text
