"""`serve --workers` where those who run it, or the handler's module, are not kind to it."""

import io
import os
import signal

import pytest
from command_under_test import COMMAND
from helpers import process_of

from gzmqsource.cli._stderr import Unblocked
from gzmqsource.workers import Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


#: Answers with the process.
CODE = """
import os
def answer(request):
    return [b"%d" % os.getpid(), *request]
"""


@pytest.fixture
def folder(tmp_path):
    """Return where the code is."""
    (tmp_path / "code.py").write_text(CODE)
    return tmp_path


def fill(fd):
    """Write to a pipe until nothing more has room; return how many bytes were written."""
    os.set_blocking(fd, False)
    size = 0
    try:
        while True:
            size += os.write(fd, b".")
    except BlockingIOError:
        return size
    finally:
        os.set_blocking(fd, True)


@pytest.mark.parametrize("workers", [(), ("--workers", 1)])
def test_a_log_that_nobody_reads_holds_up_no_server(workers, folder, address, context):
    reader, writer = os.pipe()
    fill(writer)
    command = (*COMMAND, "serve", "code:answer", "--bind", address, *workers)
    with process_of(*command, cwd=folder, stderr=writer) as process:
        os.close(writer)
        with Requester.open(address, context=context, linger=0) as requester:
            assert requester.request(b"x", timeout=20)[1:] == [b"x"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
    os.close(reader)


def test_what_a_full_pipe_does_not_take_is_dropped_and_counted():
    reader, writer = os.pipe()
    with io.FileIO(reader) as pipe, io.FileIO(writer, "w") as file:
        unblocked = Unblocked(file)
        size = fill(writer)
        assert unblocked.write(b"lost\n") == 5
        assert unblocked.write(b"too\n") == 4
        assert pipe.read(size) == b"." * size
        assert unblocked.write(b"written\n") == 8
        told = b"\n(9 bytes of this log were lost: it was full)\n"
        assert pipe.read(1 << 16) == told + b"written\n"
