"""Messages of many megabytes, through pipes: all of them come, in time, and signals are heard."""

import os
import signal
import time

import pytest
import zmq
from command_under_test import COMMAND, popen, run, running
from gevent import subprocess
from gevent.os import nb_read
from helpers import bytes_in, closing, endpoint_of, until_at_rest

from gzmqsource import Source
from gzmqsource.cli._text import FORMATS, gathered
from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder

pytestmark = [pytest.mark.once, pytest.mark.limit(180)]

#: Before it was written in pieces, one took 35 s.
LARGE = 36_000_000

CONTENTS = {
    "binary": bytes(range(256)) * (LARGE // 256),
    "text": b"x" * LARGE,
    "other text": "käse 日本\x1b".encode() * (LARGE // 14),
}


@pytest.fixture
def sender(context):
    with closing(Source.open(zmq.PUSH, bind="tcp://127.0.0.1:*", context=context, linger=0)) as (
        source,
    ):
        yield source


def received(sender, form, content):
    """Return what ``recv`` writes of a message."""
    sender.send([b"head", content])
    command = ("recv", "--connect", endpoint_of(sender), "--count", 1, "--format", form)
    finished = run(*command, timeout=100)
    assert finished.returncode == 0
    return finished.stdout


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_large_message_is_written_whole(sender, form, content):
    content = content[: LARGE // 8]  # still many pieces, and many times what a pipe holds
    written = received(sender, form, content)
    assert written == b"".join(FORMATS[form]([b"head", content]))


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("form", FORMATS)
def test_eight_times_as_much_takes_no_more_than_some_eight_times_as_long(form, content):
    def seconds(size):
        began = time.thread_time()
        for _ in gathered(FORMATS[form]([content[:size]])):
            pass
        return time.thread_time() - began

    large = LARGE // 4 if form == "text" else LARGE  # each of its characters is looked at
    small = min(seconds(large // 8) for _ in range(3))
    # What copies the rest for each piece takes 64 times as long, seconds for the raw bytes.
    assert seconds(large) < 16 * small + 0.1


@pytest.mark.parametrize("form", FORMATS)
def test_a_short_message_is_one_write(form):
    assert len(list(gathered(FORMATS[form]([b"a", b"", b"\xff", b"b"])))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", FORMATS)
def test_a_signal_ends_a_receiver_whose_reader_is_slow(sender, form, number):
    command = ("recv", "--connect", endpoint_of(sender), "--format", form)
    with running(*command, stderr=subprocess.PIPE) as process:
        sender.send(CONTENTS["binary"])
        descriptor = process.stdout.fileno()
        wait_until(lambda: bytes_in(descriptor) > 0)
        process.send_signal(number)
        while process.poll() is None:
            nb_read(descriptor, 1)
        assert process.wait() == 1
        assert "stopped in the middle of a message, of which " in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_request_whose_reply_is_large_and_not_read(context, number):
    with Responder.open(
        lambda _: CONTENTS["binary"], bind="tcp://127.0.0.1:*", context=context
    ) as server:
        server.start()
        command = ("request", "--connect", endpoint_of(server.source), "x")
        with running(*command, stderr=subprocess.PIPE) as process:
            wait_until(lambda: bytes_in(process.stdout) > 0)
            until_at_rest(process)
            process.send_signal(number)
            assert process.wait(timeout=10) == 1
            assert "stopped in the middle of a message, of which " in process.stderr.read()


def test_a_signal_is_heard_while_a_reply_is_written_that_nothing_holds_up(context, tmp_path):
    with Responder.open(
        lambda _: CONTENTS["binary"], bind="tcp://127.0.0.1:*", context=context
    ) as server:
        server.start()
        command = ("request", "--connect", endpoint_of(server.source), "x")
        path = tmp_path / "written"
        with open(path, "wb") as file, popen([*COMMAND, *command], stdout=file) as process:
            wait_until(lambda: path.stat().st_size > 0)
            process.terminate()
            assert process.wait(timeout=10) == 1
        assert path.stat().st_size < LARGE  # of some 100 MB


@pytest.mark.parametrize("how", ["file", "line", "pipe as a file"])
def test_large_input_is_sent_whole(context, tmp_path, how):
    content = CONTENTS["text"]
    (tmp_path / "file").write_bytes(content)
    with closing(Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)) as (source,):
        command = ["send", "--connect", endpoint_of(source)]
        if how == "file":
            command += ["--file", str(tmp_path / "file")]
        elif how == "pipe as a file":
            command += ["--file", "/dev/stdin"]
        with (
            open(tmp_path / "file", "rb") as file,
            popen([*COMMAND, *command], stdin=file) as process,
        ):
            assert source.recv(timeout=60) == [content]
            assert process.wait(timeout=20) == 0


def test_a_signal_ends_a_sender_whose_file_is_a_pipe_that_nothing_comes_from(context, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with closing(Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)) as (source,):
        files = ("--file", tmp_path / "pipe")
        command = ("send", "--connect", endpoint_of(source), *files)
        with running(*command) as process:
            until_at_rest(process)
            process.terminate()
            assert process.wait(timeout=10) == 0
