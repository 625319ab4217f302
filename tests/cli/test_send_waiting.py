"""`send` without a peer: it says so, goes on, and counts what it could not deliver."""

import json
import signal
import time
import types
from typing import Any

import gevent
import pytest
import zmq
import zmq.auth
from command_under_test import run, running, until_told
from gevent import subprocess
from gevent.lock import Semaphore
from helpers import bytes_in, closing, endpoint_of, free_ports, until_at_rest

from gzmqsource import Source
from gzmqsource.auth import Authenticator
from gzmqsource.cli._input import Input
from gzmqsource.cli._peers import Peers
from gzmqsource.cli._send import Delivery
from gzmqsource.cli._sockets import watched_source
from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@pytest.fixture
def sending():
    """Start ``send``, whose input never ends; gives its process."""
    processes = []

    def start(*arguments):
        process = running("send", *arguments, stderr=subprocess.PIPE)
        processes.append(process)
        return process.__enter__()

    yield start
    for process in processes:
        process.__exit__(None, None, None)


def write(process, *lines):
    """Give it lines, and wait until it has read them."""
    process.stdin.write("".join(f"{line}\n" for line in lines))
    process.stdin.flush()
    wait_until(lambda: bytes_in(process.stdin) == 0)
    until_at_rest(process)


def error_of(finished):
    """Return the last line of the standard error of a verb that has failed."""
    assert finished.returncode == 1, finished.stderr
    return finished.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize("kind", ["push", "dealer", "pair"])
@pytest.mark.parametrize("how", ["--connect", "--bind"])
def test_without_a_peer_it_says_so_after_a_second_and_counts_at_the_end(kind, how, address):
    began = time.monotonic()
    finished = run("send", how, address, "--type", kind, "--timeout", 1.5, input=b"a\nb\nc\n")
    lines = finished.stderr.decode().splitlines()
    assert lines[0].endswith(f"waiting for a peer at {address}")
    assert lines[1:] == [
        f"Error: 3 of 3 messages were not delivered: no peer at {address} within 1.5 s"
    ]
    assert finished.returncode == 1
    assert time.monotonic() - began > 1.5


def test_that_is_a_record_of_json_for_programs(address):
    options = ("--connect", address, "--timeout", 1.2)
    finished = run("--log-format", "json", "send", *options, "x")
    first, last = map(json.loads, finished.stderr.splitlines())
    assert first["message"] == f"waiting for a peer at {address}"
    assert last["message"] == (
        f"1 of 1 message was not delivered: no peer at {address} within 1.2 s"
    )
    assert finished.returncode == 1


def test_a_peer_that_comes_later_gets_all_and_that_is_success(address, context):
    command = ("send", "--connect", address, "one", "two")
    with running(*command, stderr=subprocess.PIPE) as process:
        until_told(process, "waiting for a peer")
        with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
            assert [source.recv(timeout=10) for _ in range(2)] == [[b"one"], [b"two"]]
            assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


def test_a_peer_that_is_there_is_not_waited_for(context):
    with closing(Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)) as (source,):
        finished = run("send", "--connect", endpoint_of(source), "x")
        assert source.recv(timeout=10) == [b"x"]
    assert (finished.returncode, finished.stderr) == (0, b"")


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_host_that_is_named_is_found_to_have_a_peer(attempts, address, context):
    named = address.replace("127.0.0.1", "localhost")
    source = None
    if attempts == 1:
        source = Source.open(zmq.PULL, bind=address, context=context)
    with running("send", "--connect", named, "x", stderr=subprocess.PIPE) as process:
        if source is None:
            until_told(process, f"waiting for a peer at {named}")
            source = Source.open(zmq.PULL, bind=address, context=context)
        with closing(source):
            assert source.recv(timeout=10) == [b"x"]
            assert process.wait(timeout=10) == 0


def test_a_peer_at_a_wildcard_is_found(address, context):
    port = address.rpartition(":")[2]
    words = ("send", "--bind", f"tcp://*:{port}", "x")
    with running(*words, stderr=subprocess.PIPE) as process:
        until_told(process, f"waiting for a peer at tcp://0.0.0.0:{port}")
        with closing(Source.open(zmq.PULL, connect=address, context=context)) as (source,):
            assert source.recv(timeout=10) == [b"x"]
            assert process.wait(timeout=10) == 0


def test_of_several_endpoints_that_without_a_peer_is_named(sending, context):
    missing = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with closing(Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)) as (source,):
        process = sending("--connect", endpoint_of(source), "--connect", missing, "--timeout", 0.5)
        line = until_told(process, "waiting for a peer")
        assert line.endswith(f"waiting for a peer at {missing}\n")
        write(process, *range(4))
        process.stdin.close()
        # libzmq has given each endpoint its share.
        assert {source.recv(timeout=10)[0] for _ in range(2)} < {b"0", b"1", b"2", b"3"}
        line = until_told(process, "not delivered")
        assert line == (
            f"Error: at least 1 of 4 messages were not delivered: no peer at {missing} "
            "within 0.5 s\n"
        )
        assert process.wait(timeout=20) == 1


@pytest.mark.parametrize("kind", ["pub", "xpub"])
def test_a_publisher_never_waits(kind, address):
    for how in "--connect", "--bind":
        finished = run("send", "--type", kind, how, address, "--timeout", 60, "x", timeout=20)
        assert (finished.returncode, finished.stderr) == (0, b"")


def test_a_peer_that_leaves_is_said_again_and_what_it_left_is_counted(sending, address, context):
    process = sending("--bind", address, "--timeout", 1)
    with closing(Source.open(zmq.PULL, connect=address, context=context)) as (source,):
        write(process, "one")
        assert source.recv(timeout=10) == [b"one"]
    until_told(process, f"waiting for a peer at {address}")
    write(process, "two", "three")
    process.stdin.close()
    line = until_told(process, "not delivered")
    # libzmq holds none; but if it is late to say so, it may have held some.
    line = line.replace("at least ", "")
    assert line == (f"Error: 2 of 3 messages were not delivered: no peer at {address} within 1 s\n")
    assert process.wait(timeout=20) == 1


def test_a_server_that_leaves_and_comes_again_gets_the_rest(sending, address, context):
    process = sending("--connect", address)
    until_told(process, f"waiting for a peer at {address}")
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
        write(process, "one")
        assert source.recv(timeout=10) == [b"one"]
    until_told(process, f"waiting for a peer at {address}")
    write(process, "two")
    process.stdin.close()
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
        assert source.recv(timeout=10) == [b"two"]
        assert process.wait(timeout=20) == 0


def test_a_server_that_leaves_for_good_is_the_status(sending, address, context):
    process = sending("--connect", address, "--timeout", 1)
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
        write(process, "one")
        assert source.recv(timeout=10) == [b"one"]
    until_told(process, f"waiting for a peer at {address}")
    write(process, "two", "three")
    process.stdin.close()
    line = until_told(process, "not delivered")
    assert line.startswith("Error: at least 1 of 3 messages were not delivered: no peer at ")
    assert process.wait(timeout=20) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_waits_for_a_first_peer_ends_it_with_the_count(number, address):
    command = ("send", "--connect", address, "one", "two")
    with running(*command, stderr=subprocess.PIPE) as process:
        until_told(process, "waiting for a peer")
        process.send_signal(number)
        line = until_told(process, "not delivered")
        assert line.startswith("Error: 2 of 2 messages were not delivered: no peer at ")
        assert process.wait(timeout=5) == 1


def test_a_ctrl_c_without_a_peer_ends_an_input_without_an_end(sending, address):
    process = sending("--connect", address)
    write(process, "one", "two", "three")
    until_told(process, "waiting for a peer")
    process.send_signal(signal.SIGINT)
    assert until_told(process, "not delivered").startswith("Error: 3 of 3 messages were not ")
    assert process.wait(timeout=5) == 1


def test_a_sigterm_without_a_peer_leaves_one_the_time_to_come(sending, address, context):
    process = sending("--connect", address)
    write(process, "one")
    process.terminate()
    until_told(process, "stopping: the messages that were read are sent within 30 s")
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
        assert source.recv(timeout=10) == [b"one"]
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_that_time(sending, address, second):
    process = sending("--bind", address)
    write(process, "one", "two")
    process.terminate()
    until_told(process, "stopping: the messages that were read are sent within 30 s")
    process.send_signal(second)
    line = until_told(process, "not delivered")
    assert line.startswith("Error: 2 of 2 messages were not delivered: no peer at ")
    assert line.endswith(" before the interrupt\n")
    assert process.wait(timeout=5) == 1


def test_a_second_ctrl_c_ends_what_a_slow_peer_holds_up(sending, address, context):
    process = sending("--bind", address, "--hwm", 1)
    options = {"rcvhwm": 1, "rcvbuf": 4096, "context": context}
    with closing(Source.open(zmq.PULL, connect=address, **options)) as (source,):
        write(process, *("x" * 100_000 for _ in range(100)))
        assert source.recv(timeout=10)
        process.send_signal(signal.SIGINT)
        until_told(process, "stopping: the messages that were read are sent within 30 s")
        process.send_signal(signal.SIGINT)
        line = until_told(process, "not delivered")
        assert line.startswith("Error: at least ")
        assert line.endswith(
            " of 100 messages were not delivered: the peers had no room before the interrupt\n"
        )
        assert process.wait(timeout=5) == 1


def test_no_message_for_no_peer_is_success(address):
    finished = run("send", "--connect", address, input=b"", timeout=20)
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_a_peer_that_refuses_the_user_is_named_with_its_reason(context):
    with Authenticator(context=context) as authenticator:
        authenticator.configure_plain(passwords={"ann": "secret"})
        options = {"plain_server": True, "context": context}
        with closing(Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", **options)) as (source,):
            user = ("--plain-user", "ann", "--plain-password", "wrong")
            words = ("--connect", endpoint_of(source), "--timeout", 1.2, *user, "x")
            error = error_of(run("send", *words))
    assert "(ZAP status 400: the authenticator does not accept this peer)" in error


GONE = "no peer has the routing id 'stranger': it is gone, or has not connected"


def test_what_libzmq_refuses_is_counted_too(address):
    options = ("--type", "router", "--bind", address, "--frame", "stranger")
    error = error_of(run("send", *options, input=b"a\nb\n"))
    assert error.startswith("Error: 2 of 2 messages were refused: ")
    assert error.endswith(": Host unreachable: " + GONE)


def test_a_file_that_cannot_be_read_is_named(tmp_path, address):
    (tmp_path / "file").mkdir()
    finished = run("send", "--bind", address, "--file", tmp_path / "file")
    assert finished.returncode == 2
    (tmp_path / "gone").symlink_to("/proc/self/mem")
    error = error_of(run("send", "--bind", address, "--file", tmp_path / "gone"))
    assert error == f"Error: {tmp_path / 'gone'}: Input/output error"


def test_an_interrupt_before_the_event_of_a_connection_is_read_loses_nothing(context):
    with Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context) as receiver:
        socket, delivery = {"bind": (), "connect": (endpoint_of(receiver),)}, Delivery()
        with watched_source("push", socket, on_error=delivery.refuse) as (source, events, _):
            delivery.begin(source, Peers((), socket["connect"]))
            delivery.send_all(Input((), False, (), None, ("x",)), None)
            assert receiver.recv(timeout=10) == [b"x"]
            work: Any = types.SimpleNamespace(signal=signal.SIGINT, told=Semaphore(0))
            gevent.spawn_later(0.01, delivery.peers.follow, events)
            delivery.finish(work, 10)
        assert delivery.undelivered == 0
        assert not delivery.is_interrupted
