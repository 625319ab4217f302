"""What `serve` says of itself over HTTP, to systemd, and in a file."""

import fcntl
import os
import re
import resource
import signal
import stat
import time

import click
import gevent
import pytest
from command_under_test import run, until_told
from gevent import socket
from helpers import free_ports
from http_pages import ask

from gzmqsource.cli._http import Pages, PageServer
from gzmqsource.cli._notify import Notifier
from gzmqsource.cli._numbers import Address
from gzmqsource.cli._pidfile import PidFile
from gzmqsource.testing import all_blocked, wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@pytest.fixture
def pages():
    """Serve pages of a state that the test sets; gives it and the port."""

    class State:
        reason: str | None = None
        port: int | None

    server = PageServer(("127.0.0.1", 0), Pages(lambda: State.reason, lambda: b"numbers\n"))
    server.start()
    State.port = server.server_port
    yield State
    server.stop()


def test_there_are_three_pages_and_no_others(pages):
    for path in "/healthz", "/readyz", "/metrics":
        assert ask(pages.port, path)[0] == 200
        assert ask(pages.port, path + "?x=1")[0] == 200
    for path in "/", "/metrics/", "/healthz/x", "/%2e%2e/etc/passwd", "/favicon.ico", "*":
        assert ask(pages.port, path)[0] == 404


def test_only_get_and_head_are_allowed(pages):
    for method in "POST", "PUT", "DELETE", "OPTIONS":
        assert ask(pages.port, "/metrics", method)[0] == 405
    assert ask(pages.port, "/metrics", "HEAD") == (200, "")
    assert ask(pages.port, "/nothing", "HEAD") == (404, "")
    assert ask(pages.port, "/metrics") == (200, "numbers\n")


def test_what_is_not_ready_says_why_in_one_line(pages):
    pages.reason = "one worker\nof two\x1b"
    assert ask(pages.port, "/readyz") == (503, "one worker\\x0aof two\\x1b\n")
    assert ask(pages.port, "/healthz")[0] == 200
    pages.reason = None
    assert ask(pages.port, "/readyz") == (200, "ready\n")


def test_a_client_that_says_nothing_is_disconnected_and_others_are_served(pages, monkeypatch):
    monkeypatch.setattr(PageServer, "patience", 0.2)
    idle = [socket.create_connection(("127.0.0.1", pages.port)) for _ in range(5)]
    for each in idle:
        each.sendall(b"GET /healthz")
    all_blocked()  # they were accepted
    monkeypatch.setattr(PageServer, "patience", 1000)
    assert ask(pages.port, "/healthz")[0] == 200
    for each in idle:
        assert each.recv(100) == b""
        each.close()


def test_connections_without_a_request_do_not_keep_others_out(pages, monkeypatch, caplog):
    monkeypatch.setattr(PageServer, "max_connections", 5)
    monkeypatch.setattr(PageServer, "patience", 1000)
    idle = [socket.create_connection(("127.0.0.1", pages.port)) for _ in range(20)]
    assert ask(pages.port, "/healthz")[0] == 200
    with gevent.Timeout(10):
        assert idle[0].recv(1) == b""
    assert "--metrics: a connection without a request is closed: 5 are open" in caplog.text
    for each in idle:
        each.close()


def test_each_connection_is_for_one_request(pages):
    with socket.create_connection(("127.0.0.1", pages.port)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        answer = b"".join(iter(lambda: client.recv(1000), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:9100", ("::1", 9100)),
        ("[::]:65535", ("::", 65535)),
    ],
)
def test_an_address_is_a_port_or_a_host_and_a_port(text, address):
    assert Address()(text) == address


@pytest.mark.parametrize("text", ["0", "65536", "x", "localhost", "::1", "::1:9100", ":9100", "x:"])
def test_what_is_no_address_is_an_error_of_one_line(text):
    finished = run("serve", "json:dumps", "--bind", "tcp://127.0.0.1:*", "--metrics", text)
    assert finished.returncode == 2
    assert f"Invalid value for '--metrics': '{text}'" in finished.stderr.decode()


def test_an_address_in_use_is_an_error_that_names_it(pages):
    where = f"127.0.0.1:{pages.port}"
    finished = run("serve", "json:dumps", "--bind", "tcp://127.0.0.1:*", "--metrics", where)
    assert finished.returncode == 1
    reason = f"Address already in use: ('127.0.0.1', {pages.port})"
    assert finished.stderr.decode() == f"Error: --metrics: {reason}\n"


SLOW = """
import gevent
def slow(x):
    gevent.sleep(60)
"""


def test_a_server_is_ready_until_it_stops_and_alive_until_it_ends(
    serving, tmp_path, address, context
):
    (tmp_path / "slow.py").write_text(SLOW)
    port = free_ports(1)[0]
    process = serving("--metrics", f"[::1]:{port}", "--stop-timeout", 3, target="slow:slow")
    assert ask(port, "/readyz", host="::1") == (200, "ready\n")
    assert "\ngzmqsource_ready 1.0\n" in ask(port, "/metrics", host="::1")[1]
    asking = gevent.spawn(run, "request", "--connect", address, "x")
    running = re.compile(r"^gzmqsource_responder_running\{.*\} 1\.0$", re.MULTILINE)
    wait_until(lambda: running.search(ask(port, "/metrics", host="::1")[1]))
    process.terminate()
    wait_until(lambda: ask(port, "/readyz", host="::1") == (503, "it stops\n"))
    assert ask(port, "/healthz", host="::1")[0] == 200
    assert "\ngzmqsource_ready 0.0\n" in ask(port, "/metrics", host="::1")[1]
    assert process.wait(timeout=20) == 1
    asking.join()


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told_of_each_state(serving, systemd, is_abstract):
    process = serving(NOTIFY_SOCKET=systemd.names[is_abstract])
    wait_until(lambda: systemd.told)
    (first,) = systemd.told
    assert first.startswith("READY=1\nSTATUS=<Source ROUTER tcp://127.0.0.1:")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: systemd.count("READY=1") == 2)
    _, reloading, ready = systemd.told
    word, _, moment = reloading.partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before < int(moment) < time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert ready == "READY=1\nSTATUS=reloaded"
    process.terminate()
    assert process.wait(timeout=20) == 0
    wait_until(lambda: systemd.count("STOPPING=1"))
    assert systemd.told[-1] == "STOPPING=1\nSTATUS=stopping"
    assert not systemd.count("WATCHDOG=1")


BLOCKING = """
import os
from gevent.monkey import get_original
sleep = get_original("time", "sleep")
def block(x):
    open("begun", "w").close()
    while not os.path.exists("go"):
        sleep(0.01)
    return x
"""


def test_the_watchdog_of_systemd_is_fed_by_the_hub(serving, systemd, tmp_path, address):
    (tmp_path / "blocking.py").write_text(BLOCKING)
    serving(target="blocking:block", NOTIFY_SOCKET=systemd.names[0], WATCHDOG_USEC="100000")
    wait_until(lambda: systemd.count("WATCHDOG=1") > 5)
    asking = gevent.spawn(run, "request", "--connect", address, "x")
    wait_until((tmp_path / "begun").exists)
    all_blocked()  # what it was told before has been read
    fed = systemd.count("WATCHDOG=1")
    gevent.sleep(0.3)  # six times as long as from one to the next
    assert systemd.count("WATCHDOG=1") == fed
    (tmp_path / "go").touch()
    wait_until(lambda: systemd.count("WATCHDOG=1") > fed)
    assert asking.get(timeout=30).returncode == 0


RELOADED = """
import os, time
if os.path.exists("loaded"):
    open("reloading", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
open("loaded", "w").close()
def slow(x):
    open("begun", "w").close()
    time.sleep(60)
"""


def test_a_reload_does_not_undo_that_the_server_stops(serving, systemd, tmp_path, address):
    (tmp_path / "reloaded.py").write_text(RELOADED)
    options = ("--stop-timeout", 3)
    process = serving(*options, target="reloaded:slow", NOTIFY_SOCKET=systemd.names[0])
    asking = gevent.spawn(run, "request", "--connect", address, "--timeout", 20, "x")
    wait_until((tmp_path / "begun").exists)
    process.send_signal(signal.SIGHUP)
    wait_until((tmp_path / "reloading").exists)
    process.terminate()
    wait_until(lambda: systemd.count("STOPPING=1"))
    (tmp_path / "go").touch()
    until_told(process, "was reloaded")
    assert process.wait(timeout=20) == 1
    asking.kill()
    assert [each.split("\n")[0] for each in systemd.told] == [
        "READY=1",
        "RELOADING=1",
        "STOPPING=1",
    ]


STARTING = """
import os, time
while not os.path.exists("go"):
    time.sleep(0.01)
answer = list
"""


def test_with_workers_a_server_is_ready_once_one_of_them_is(serving, systemd, tmp_path):
    (tmp_path / "starting.py").write_text(STARTING)
    serving("--workers", 2, target="starting:answer", NOTIFY_SOCKET=systemd.names[0])
    wait_until(lambda: systemd.told)
    assert systemd.told == ["STATUS=no worker is ready"]
    (tmp_path / "go").touch()
    wait_until(lambda: systemd.count("READY=1"))


def test_with_workers_of_broken_code_a_server_never_is(serving, systemd, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    process = serving("--workers", 1, target="broken:answer", NOTIFY_SOCKET=systemd.names[0])
    assert process.wait(timeout=60) == 1
    wait_until(lambda: systemd.count("STOPPING=1"))
    assert not systemd.count("READY=1")


def test_a_status_is_one_line_whatever_is_in_it(systemd):
    notifier = Notifier({"NOTIFY_SOCKET": systemd.names[0]})
    notifier.status("one\nREADY=1")
    wait_until(lambda: systemd.told)
    assert systemd.told == ["STATUS=one\\x0aREADY=1"]
    notifier.close()
    notifier.status("another")
    Notifier({}).status("a third")
    gevent.sleep(0.05)
    assert len(systemd.told) == 1


def test_a_pid_file_that_cannot_be_written_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(click.ClickException, match="File too large"):
            PidFile(str(tmp_path / "pid"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_of_two_that_begin_at_once_one_has_the_pid_file(tmp_path):
    path = tmp_path / "pid"
    file = PidFile(str(path))
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(click.ClickException, match=f"process {os.getppid()} is running"):
        file.write()
    assert path.read_text() == f"{os.getppid()}\n"
    file.remove()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("pid", ["", "1"])
def test_the_watchdog_of_another_process_is_left_to_it(serving, systemd, pid):
    process = serving(NOTIFY_SOCKET=systemd.names[0], WATCHDOG_USEC="10000", WATCHDOG_PID=pid)
    wait_until(lambda: systemd.count("READY=1"))
    process.terminate()
    assert process.wait(timeout=20) == 0
    wait_until(lambda: systemd.count("STOPPING=1"))
    assert not systemd.count("WATCHDOG=1")


def test_a_manager_that_is_gone_is_a_warning_and_the_server_serves(serving, tmp_path, address):
    process = serving(NOTIFY_SOCKET=str(tmp_path / "nothing"))
    assert "systemd was not notified of READY=1" in process.stderr.readline()
    assert run("request", "--connect", address, "x").returncode == 0


def test_a_file_has_the_number_of_a_server_while_it_serves(serving, tmp_path):
    path = tmp_path / "serve.pid"
    path.write_text(f"{2**22 + 1}\n")  # of a process that has crashed
    process = serving("--pid", path)
    wait_until(lambda: path.read_text() == f"{process.pid}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each for each in os.listdir(tmp_path) if each.startswith(".")] == []
    finished = run("serve", "json:dumps", "--bind", "tcp://127.0.0.1:*", "--pid", path)
    assert finished.returncode == 1
    assert finished.stderr.decode() == f"Error: --pid {path}: process {process.pid} is running\n"
    assert path.read_text() == f"{process.pid}\n"
    process.terminate()
    assert process.wait(timeout=20) == 0
    assert not path.exists()


def test_the_number_of_this_process_is_stale_too(tmp_path):
    """In a container each server is process 1."""
    path = tmp_path / "serve.pid"
    path.write_text(f"{os.getpid()}\n")
    file = PidFile(str(path))
    file.write()
    file.remove()
    assert not os.listdir(tmp_path)


def test_a_file_that_is_another_processs_by_now_stays(serving, tmp_path):
    path = tmp_path / "serve.pid"
    process = serving("--pid", path)
    wait_until(path.exists)
    path.write_text("4242\n")
    process.terminate()
    assert process.wait(timeout=20) == 0
    assert path.read_text() == "4242\n"


def test_a_pid_file_whose_folder_is_no_folder_any_more_is_left(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    file = PidFile(str(folder / "pid"))
    file.write()
    folder.rename(tmp_path / "elsewhere")
    folder.touch()
    file.remove()
    assert (tmp_path / "elsewhere" / "pid").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_another_user_has_locked_holds_up_no_server(serving, tmp_path):
    path = tmp_path / "serve.pid"
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        process = serving("--pid", path)
        wait_until(path.exists)
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        os.close(descriptor)


def test_a_module_that_changes_the_directory_moves_no_file_and_no_keys(starting, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moves.py").write_text(
        f"import os\nos.chdir('{tmp_path}/elsewhere')\nanswer = list\n"
    )
    assert run("keygen", tmp_path / "keys", "--name", "x").returncode == 0
    keys = ("--curve-key", "keys/x.key_secret", "--curve-clients", "keys")
    bind = ("--bind", "tcp://127.0.0.1:*")
    process = starting("serve", "moves:answer", *bind, "--pid", "serve.pid", *keys)
    wait_until((tmp_path / "serve.pid").exists)
    process.send_signal(signal.SIGHUP)
    assert until_told(process, " keys").endswith(": keys was read again\n")
    process.terminate()
    assert process.wait(timeout=20) == 0
    assert not (tmp_path / "serve.pid").exists()


def test_what_is_no_file_of_a_number_is_left_as_it_is(tmp_path):
    text = tmp_path / "text"
    text.write_text("important\n")
    link = tmp_path / "link"
    link.symlink_to(text)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reasons = {
        text: "this is another file: it does not have a process number",
        link: "this is a symbolic link",
        pipe: "this is not a file",
        tmp_path / "no" / "file": "No such file or directory",
    }
    for path, reason in reasons.items():
        finished = run("serve", "json:dumps", "--bind", "tcp://127.0.0.1:*", "--pid", path)
        assert finished.returncode == 1
        assert finished.stderr.decode() == f"Error: --pid {path}: {reason}\n"
    assert text.read_text() == "important\n"


def test_a_server_that_cannot_bind_leaves_no_file(serving, tmp_path, address):
    serving()
    finished = run("serve", "json:dumps", "--bind", address, "--pid", tmp_path / "serve.pid")
    assert finished.returncode == 1
    assert not [each for each in os.listdir(tmp_path) if "pid" in each]
