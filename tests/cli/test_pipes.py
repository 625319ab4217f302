"""`send`, `recv` and `request`, as a user runs them: with pipes and signals."""

import json
import os
import signal

import pytest
import zmq
from command_under_test import run, running
from gevent import subprocess
from gevent.queue import Empty
from helpers import bytes_in, closing, until_at_rest

from gzmqsource import Source
from gzmqsource.cli._text import FORMATS, from_json
from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


def test_lines_go_from_one_shell_to_another_as_they_are(address):
    lines = b"first\n\xff\x00binary\nlast without an end"
    with running("recv", "--bind", address, "--count", 3, "--format", "json") as got:
        assert run("send", "--connect", address, "--frame", "topic", input=lines).returncode == 0
        messages = [from_json(line.encode()) for line in got.stdout]
        assert got.wait(timeout=20) == 0
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
    assert b"".join(FORMATS[name]([b"a\tb\n", b"\xff"])) == wanted


def test_a_receiver_whose_reader_has_enough_ends_without_a_word(address, context):
    with (
        closing(Source.open(zmq.PUSH, bind=address, context=context, linger=0)) as (source,),
        running("recv", "--connect", address, stderr=subprocess.PIPE) as got,
    ):
        source.send(b"one")
        assert got.stdout.readline() == "one\n"
        got.stdout.close()
        source.send(b"two")
        assert got.wait(timeout=20) == 141
        assert got.stderr.read() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_is_an_error(address, context):
    with (
        closing(Source.open(zmq.PUSH, bind=address, context=context, linger=0)) as (source,),
        open("/dev/full", "wb") as full,
    ):
        source.send(b"one")
        finished = run("recv", "--connect", address, stdout=full)
        assert finished.returncode == 1
        assert b"cannot write: No space left" in finished.stderr


def test_a_receiver_that_gets_too_few_says_so_by_its_status(address):
    assert run("recv", "--bind", address, "--count", 1, "--timeout", 0.1).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sender_that_is_stopped_loses_nothing_it_has_read(number, address, context):
    with (
        closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,),
        running("send", "--connect", address) as sending,
    ):
        sending.stdin.write("one\n")
        sending.stdin.flush()
        assert source.recv(timeout=10) == [b"one"]
        until_at_rest(sending)  # it has heard of its peer
        sending.send_signal(number)
        assert sending.wait(timeout=20) == 0


@pytest.mark.parametrize("options", [["--hwm", 1], ["--rate", 0.01]], ids=["full", "slow"])
def test_a_sender_that_is_stopped_with_a_message_in_hand_sends_it_first(options, address, context):
    with running("send", "--bind", address, *options) as sending:
        for number in range(1002):  # the outbox has 1000
            sending.stdin.write(f"{number}\n")
        sending.stdin.flush()
        wait_until(lambda: bytes_in(sending.stdin) == 0)
        until_at_rest(sending)
        sending.send_signal(signal.SIGTERM)
        with closing(Source.open(zmq.PULL, connect=address, context=context)) as (source,):
            # What it had read: a thousand in the outbox, and one in hand; or one that was sent.
            count = 1001 if "--hwm" in options else 2
            assert [int(source.recv(timeout=10)[0]) for _ in range(count)] == list(range(count))
            assert sending.wait(timeout=20) == 0
            with pytest.raises(Empty):
                source.recv(timeout=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_receiver_that_is_stopped_writes_what_is_on_its_way(number, address, context):
    with (
        closing(Source.open(zmq.PUSH, connect=address, context=context, linger=0)) as (source,),
        running("recv", "--bind", address) as receiving,
    ):
        source.send(b"0")
        assert receiving.stdout.readline() == "0\n"
        for text in range(1, 300):
            source.send(b"%d" % text)
        receiving.send_signal(number)
        assert receiving.stdout.read().split() == [str(text) for text in range(1, 300)]
        assert receiving.wait(timeout=20) == 0


def test_a_receiver_whose_output_nobody_reads_can_be_stopped(address, context):
    with (
        running("recv", "--connect", address, stderr=subprocess.PIPE) as receiving,
        closing(Source.open(zmq.PUSH, bind=address, context=context, linger=0)) as (source,),
    ):
        for _ in range(100):
            source.send(b"x" * 10_000)
        wait_until(lambda: bytes_in(receiving.stdout) > 10_000)
        until_at_rest(receiving)
        receiving.terminate()
        assert receiving.wait(timeout=20) == 1
        assert "the output is not read fast enough" in receiving.stderr.read()


def test_no_answer_in_time_is_an_error(address):
    finished = run("request", "--connect", address, "--timeout", 0.1, "x")
    assert finished.returncode == 1
    assert "no reply within 0.1 s" in finished.stderr.decode()
