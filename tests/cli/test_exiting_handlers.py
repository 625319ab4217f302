"""Handlers that exit, as by `sys.exit`: which messages that costs, and how `serve` ends."""

import signal

import gevent
import pytest
import zmq
from command_under_test import run, until_told

from gzmqsource import Source
from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: Exits as it is asked to; other calls end once there is a file, and note that they have begun.
CODE = """
import os, sys, gevent
ran = open("ran", "ab", 0)
def answer(request):
    if request[0] == b"interrupt":
        raise KeyboardInterrupt
    if request[0].startswith(b"exit"):
        sys.exit(eval(request[0][5:]))
    ran.write(request[0] + b"\\n")
    while not os.path.exists("go"):
        gevent.sleep(0.01)
    return request
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "code.py").write_text(CODE)
    (tmp_path / "ran").touch()
    return tmp_path


@pytest.fixture
def requester(address, context):
    with Requester.open(address, context=context, linger=0, dead_after=20) as requester:
        yield requester


def asking(requester, payload):
    return gevent.spawn(requester.request, payload, timeout=60)


def begun(folder, count):
    wait_until(lambda: len((folder / "ran").read_bytes().split()) == count)


def test_a_handler_that_exits_costs_no_other_request(serving, requester, folder):
    process = serving("--spawn", 2, target="code:answer")
    runs = asking(requester, b"runs")
    begun(folder, 1)
    exits = asking(requester, b"exit 3")
    with pytest.raises(PeerLost):
        exits.get(timeout=30)
    (folder / "go").touch()
    assert runs.get(timeout=30) == [b"runs"]
    until_told(process, "code:answer has raised SystemExit(3): the process stops")
    assert process.wait(timeout=20) == 3


def test_a_first_signal_while_a_handler_has_the_process_stop_gives_up_nothing(
    serving, requester, folder
):
    """A service manager may stop the server just then."""
    process = serving("--spawn", 2, target="code:answer")
    runs = asking(requester, b"runs")
    begun(folder, 1)
    exits = asking(requester, b"exit 3")
    until_told(process, "the process stops")
    process.send_signal(signal.SIGTERM)
    until_told(process, "stopping: 1 request")
    (folder / "go").touch()
    assert runs.get(timeout=30) == [b"runs"]
    with pytest.raises(PeerLost):
        exits.get(timeout=30)
    assert process.wait(timeout=20) == 3


@pytest.mark.parametrize("kind", ["rep", "pull"])
def test_a_server_whose_socket_the_handler_destroys_ends(serving, address, folder, context, kind):
    """It would be deaf, and say that it is ready."""
    (folder / "ends.py").write_text(
        "import zmq\ndef answer(request): zmq.Context.instance().destroy(0)\n"
    )
    process = serving("--type", kind, target="ends:answer")
    kinds = {"rep": zmq.DEALER, "pull": zmq.PUSH}
    with Source.open(kinds[kind], connect=address, context=context, linger=0) as client:
        client.send([b"", b"x"])
        until_told(process, "the socket is lost, and the log says how")
    assert process.wait(timeout=20) == 1


def test_a_worker_whose_socket_the_handler_destroys_is_replaced(serving, requester, folder):
    (folder / "ends.py").write_text(
        "import os, zmq\n"
        "def answer(request):\n"
        "    if request == [b'end']: zmq.Context.instance().destroy(0)\n"
        "    return b'%d' % os.getpid()\n"
    )
    process = serving("--workers", 1, "--dead-after", 20, target="ends:answer")
    first = asking(requester, b"x").get(timeout=30)
    with pytest.raises(PeerLost):
        asking(requester, b"end").get(timeout=30)
    assert asking(requester, b"x").get(timeout=30) != first
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_a_worker_whose_handler_exits_loses_no_other_request(serving, requester, folder):
    process = serving("--workers", 1, "--spawn", 2, "--dead-after", 20, target="code:answer")
    until_told(process, "is ready")
    runs = asking(requester, b"runs")
    begun(folder, 1)
    exits = asking(requester, b"exit 3")
    waits = [asking(requester, b"%d" % number) for number in range(10)]
    with pytest.raises(PeerLost):
        exits.get(timeout=30)
    # Its successor takes them while it finishes the request that runs.
    until_told(process, "is ready")
    begun(folder, 3)
    (folder / "go").touch()
    assert runs.get(timeout=30) == [b"runs"]
    assert [each.get(timeout=30) for each in waits] == [[b"%d" % number] for number in range(10)]
    until_told(process, "has ended with exit status 3")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("payload", "status"),
    [("exit 0", 0), ("exit None", 0), ("exit 'full'", 1), ("exit 7", 7), ("interrupt", 130)],
)
def test_the_status_is_that_of_the_handlers_exit(serving, address, folder, payload, status):
    process = serving(target="code:answer")
    assert run("request", "--connect", address, payload).returncode == 1
    assert process.wait(timeout=20) == status
    assert ("full" in process.stderr.read().splitlines()) == (payload == "exit 'full'")


def test_a_consumer_that_exits_handles_the_messages_that_it_has(serving, address, context, folder):
    process = serving("--type", "pull", target="code:answer")
    with Source.open(zmq.PUSH, connect=address, context=context) as source:
        source.send(b"one")
        begun(folder, 1)
        source.send(b"exit 3")
        source.send(b"two")
        until_told(process, "the process stops")
        begun(folder, 2)
        (folder / "go").touch()
        assert process.wait(timeout=20) == 3


def test_what_a_handler_has_returned_is_reported_with_its_name(serving, address, folder):
    (folder / "none.py").write_text("def answer(request): pass\n")
    process = serving(target="none:answer")
    assert run("request", "--connect", address, "x").returncode == 1
    until_told(process, "the handler none:answer has returned None")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
