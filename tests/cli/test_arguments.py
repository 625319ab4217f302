"""Arguments that are bytes, and no text."""

import os
from contextlib import closing

import pytest
import zmq
from command_under_test import COMMAND
from gevent import subprocess
from helpers import process_of

from gzmqsource import Source

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]

BYTES = b"\xff\xfe"
WORD = os.fsdecode(BYTES)

#: Where the verbs take endpoints.
ENDPOINTS = {
    "recv --bind": ("recv", "--bind"),
    "send --connect": ("send", "x", "--connect"),
    "serve --join": ("serve", "builtins:print", "--join"),
    "broker FRONT": ("broker",),
}


@pytest.mark.parametrize("words", ENDPOINTS.values(), ids=ENDPOINTS)
def test_an_endpoint_that_is_no_text_is_refused_by_its_option(words):
    back = ("tcp://127.0.0.1:*",) if words == ("broker",) else ()
    command = (*COMMAND, *words, f"tcp://{WORD}:1", *back)
    finished = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert finished.returncode == 2
    said = " ".join(finished.stderr.split())
    assert f"Invalid value for '{'FRONT' if back else words[-1]}'" in said
    assert r"'tcp://\udcff\udcfe:1': an endpoint is text in UTF-8" in said


def test_a_host_for_the_pages_that_is_no_text_is_refused_by_its_option():
    words = ("serve", "json:dumps", "--bind", "tcp://127.0.0.1:*", "--metrics", f"{WORD}:9100")
    command = (*COMMAND, *words)
    finished = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert finished.returncode == 2
    said = " ".join(finished.stderr.split())
    assert r"Invalid value for '--metrics': '\udcff\udcfe:9100': a host is text in UTF-8" in said


def test_arguments_are_sent_byte_for_byte(address, context):
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as source:
        words = (*COMMAND, "send", WORD, "--frame", WORD, "--connect", address)
        with process_of(*words) as process:
            assert source.recv(timeout=30) == [BYTES, BYTES]
            assert process.wait(20) == 0


def test_a_topic_may_be_any_bytes(address, context):
    words = (*COMMAND, "recv", "--type", "sub", "--subscribe", WORD, "--connect", address)
    with (
        closing(Source.open(zmq.XPUB, bind=address, context=context)) as source,
        process_of(*words, "--count", "1", "--format", "hex") as process,
    ):
        assert source.recv(timeout=30) == [b"\x01" + BYTES]
        source.send(BYTES)
        assert process.stdout.readline().strip() == BYTES.hex()
        assert process.wait(20) == 0
