"""`serve`, as a user runs it: under load, stopped, and with new code."""

import functools
import signal
import time
import urllib.request

import gevent
import pytest
import zmq
from asking import Asker, Detail, Kind
from command_under_test import run
from helpers import free_ports
from loads import Clients

from gzmqsource import Source
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


def test_requests_are_answered_by_a_handler(serving, address):
    serving()
    finished = run("request", "--connect", address, "one", "two")
    assert (finished.returncode, finished.stdout) == (0, b"old\tone\nold\ttwo\n")


def test_a_handler_that_raises_is_told_to_who_asked(serving, address):
    serving(target="served:fail")
    finished = run("request", "--connect", address, "x")
    assert finished.returncode == 1
    assert "KeyError: 'no such thing'" in finished.stderr.decode()


def test_a_client_that_speaks_the_protocol_is_told_of_the_end(serving, address, context):
    process = serving("--spawn", 1, "--max-waiting", 0, "--dead-after", 5, target="served:note")
    with Asker(context, address) as asker:
        asker.ask(b"1")
        wait_until(lambda: asker.count(Kind.REPLY))
        (pong, _), *_ = asker.heard
        assert (pong.kind, pong.left) == (Kind.PONG, 5000)
        process.send_signal(signal.SIGTERM)
        asker.until_heard(Kind.LEAVING)
        assert asker.wait_for(asker.ask(), Kind.REFUSED) == Detail.LEAVING
        asker.say(Kind.NOMORE)
        assert process.wait(timeout=20) == 0


def test_a_handler_that_takes_too_long_is_ended(serving, address):
    serving("--timeout", 0.05, target="served:block")
    finished = run("request", "--connect", address, "x")
    assert "Timeout: 0.05 seconds" in finished.stderr.decode()


def test_a_server_told_to_stop_answers_what_it_has_accepted(serving, address, context, tmp_path):
    process = serving(target="served:note")
    with Requester.open(address, context=context, linger=0) as requester:
        clients = Clients(requester)
        wait_until(lambda: len(clients.answers) > 1000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        wait_until(lambda: requester.stats().waiting == 200)  # for another server
        assert not clients.errors
        requester.close()
        clients.join()
    accepted = (tmp_path / "accepted").read_bytes().split()
    assert clients.answers == {number: [number] for number in accepted}


def test_after_a_hangup_the_new_code_serves_and_no_request_is_lost(
    serving, address, context, tmp_path
):
    process = serving("--dead-after", 20)
    served = tmp_path / "served.py"
    with Requester.open(address, context=context, linger=0, dead_after=20) as requester:
        clients = Clients(requester)
        wait_until(lambda: len(clients.answers) > 1000)
        served.write_text(served.read_text().replace("old", "new, and longer"))
        process.send_signal(signal.SIGHUP)
        assert "was reloaded" in process.stderr.readline()
        wait_until(lambda: requester.request(b"x", 10) == [b"new, and longer", b"x"])
        served.write_text("this is no Python")
        process.send_signal(signal.SIGHUP)
        assert "the old code stays in use" in process.stderr.readline()
        assert requester.request(b"x", 10) == [b"new, and longer", b"x"]
        clients.join()
    assert not clients.errors
    for number, answer in clients.answers.items():
        assert answer in ([b"old", number], [b"new, and longer", number])


def test_a_server_tells_its_numbers(serving, address):
    port = free_ports(1)[0]
    serving("--metrics", port)
    run("request", "--connect", address, "x")

    def read():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return answer.read().decode()

    assert "gzmqsource_received_messages_total{" in gevent.get_hub().threadpool.apply(read)


def asks(context, address):
    client = context.socket(zmq.DEALER)
    client.linger = client.sndhwm = 0
    client.rcvhwm = 1
    client.rcvbuf = 10_000
    client.connect(address)
    return client


def test_a_message_that_is_too_large_is_dropped_and_the_next_is_answered(serving, address, context):
    process = serving("--max-message", 1000, "--max-frames", 10)
    client = asks(context, address)
    client.send_multipart([b"", *[b""] * 9])
    client.send_multipart([b"", b"x" * 600, b"y" * 600])
    client.send_multipart([b"", *[b"x"] * 8])
    assert client.recv_multipart()[:3] == [b"", b"old", b"x"]
    assert "too large" in process.stderr.readline()
    client.close()


def test_a_frame_that_is_too_large_ends_the_connection(serving, address, context):
    serving("--max-message", 1000)
    client = asks(context, address)
    monitor = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    client.send_multipart([b"", b"x" * 1001])
    assert monitor.poll(10_000)
    client.disable_monitor()
    monitor.close()
    client.close()


def test_what_waits_for_clients_is_bounded(serving, address, context):
    port = free_ports(1)[0]
    bounds = ("--outbox", 100, "--outbox-bytes", 50_000, "--outbox-total", 80_000, "--hwm", 1)
    serving("--metrics", port, *bounds)
    clients = [asks(context, address) for _ in range(3)]

    def number(name):
        time.sleep(0.05)  # of a thread; an answer costs the server time
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))

    for client in clients:
        for _ in range(1000):
            client.send_multipart([b"", b"x" * 10_000])
    in_thread = gevent.get_hub().threadpool.apply
    depth = functools.partial(in_thread, number, ("gzmqsource_outbox_bytes",))

    def has_received_all():
        assert depth() < 80_000
        return in_thread(number, ("gzmqsource_received_messages_total",)) == 3000

    # While they come: the kernel may take the last replies later.
    wait_until(lambda: depth() > 30_000)
    wait_until(has_received_all, 60)
    for client in clients:
        client.close()


def test_jobs_are_handled_without_an_answer(serving, address, context):
    process = serving("--type", "pull", target="builtins:print")
    with Source.open(zmq.PUSH, connect=address, context=context) as source:
        source.send(b"job")
        assert process.stdout.readline() == "[b'job']\n"


def test_a_handler_that_a_pull_would_call_in_vain_is_refused(address, tmp_path):
    (tmp_path / "vain.py").write_text("async def handle(message): pass\n")
    finished = run("serve", "vain:handle", "--type", "pull", "--bind", address, cwd=tmp_path)
    assert finished.returncode == 1
    assert "handle is a coroutine function, which does nothing" in finished.stderr.decode()
