"""The lines of the standard input, as `send` and `request` read them."""

import pathlib
import sys

import click
import pytest
import zmq
from command_under_test import COMMAND, run, running
from helpers import closing, process_of

from gzmqsource import Source
from gzmqsource.cli import _input
from gzmqsource.cli._input import Input

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]


@pytest.mark.parametrize(
    ("blocks", "lines"),
    [
        ([], []),
        ([b"\n"], [b""]),
        ([b"one\ntwo\n"], [b"one", b"two"]),
        ([b"one\ntw", b"o"], [b"one", b"two"]),
        ([b"o", b"n", b"e\n\n", b"\n"], [b"one", b"", b""]),
        ([b"one\r\n", b"\x00\xff"], [b"one\r", b"\x00\xff"]),
    ],
)
def test_lines_are_those_of_all_blocks(monkeypatch, blocks, lines):
    rest = iter([*blocks, b""])
    monkeypatch.setattr(_input, "_read_block", lambda: next(rest))
    assert [*_input._lines()] == lines


def test_a_line_is_no_switch_to_another_thread(monkeypatch):
    threaded = _input.call_in_pool
    calls = []

    def counted(read):
        calls.append(read)
        return threaded(read)

    monkeypatch.setattr(_input, "call_in_pool", counted)
    blocks = iter([b"x\n" * 1000, b""])
    monkeypatch.setattr(_input, "_read_block", lambda: next(blocks))
    assert len([*_input._lines()]) == 1000
    assert len(calls) == 2


def test_a_line_is_sent_as_soon_as_it_is_there(address, context):
    command = ("send", "--connect", address)
    with (
        closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,),
        running(*command) as process,
    ):
        for line in "one", "two", "a line\nand a half":
            process.stdin.write(line if "half" in line else f"{line}\n")
            process.stdin.flush()
            assert source.recv(timeout=30) == [line.partition("\n")[0].encode()]
        process.stdin.close()
        assert source.recv(timeout=30) == [b"and a half"]
        assert process.wait(20) == 0


def test_an_input_that_another_process_has_made_nonblocking_is_waited_for(address, context):
    program = "import os, sys; os.set_blocking(0, False); os.execv(sys.argv[1], sys.argv[1:])"
    command = (sys.executable, "-c", program, *COMMAND, "send", "--connect", address)
    with (
        closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,),
        process_of(*command) as process,
    ):
        for line in "one", "two":
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            assert source.recv(timeout=30) == [line.encode()]
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_a_file_that_cannot_be_read_is_an_error_of_one_line(address):
    finished = run("send", "--file", "/proc/self/mem", "--connect", address)
    assert finished.returncode == 1
    assert finished.stderr == b"Error: /proc/self/mem: Input/output error\n"


def test_a_file_that_is_too_large_for_the_memory_is_an_error_of_one_line(monkeypatch):
    def read(_path):
        raise MemoryError

    monkeypatch.setattr(pathlib.Path, "read_bytes", read)
    with pytest.raises(click.ClickException, match="large: it is too large for the memory"):
        list(Input((), False, ("large",), None, ()))
