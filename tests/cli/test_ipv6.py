"""IPv6 addresses, wherever a verb takes an endpoint."""

import socket

import pytest
from command_under_test import run, running
from gevent import subprocess


def free_ports(count):
    """Return ports of ``::1`` that are free; skip the test on a machine without one."""
    sockets = [socket.socket(socket.AF_INET6) for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("::1", 0))
        return [each.getsockname()[1] for each in sockets]
    except OSError:
        pytest.skip("this machine has no ::1")
    finally:
        for each in sockets:
            each.close()


pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(60)]


@pytest.fixture
def ends():
    return [f"tcp://[::1]:{port}" for port in free_ports(2)]


def test_messages_pass_over_ipv6(ends):
    receiver = ("recv", "--bind", ends[0], "--count", "1", "--timeout", "30")
    with running(*receiver) as receiving:
        assert run("send", "one", "--connect", ends[0]).returncode == 0
        assert receiving.stdout.readline() == "one\n"
        assert receiving.wait(20) == 0


def test_a_mixture_of_families_passes_too(ends, address):
    receiver = ("recv", "--bind", ends[0], "--bind", address, "--count", "2", "--timeout", "30")
    with running(*receiver) as receiving:
        for end in ends[0], address:
            assert run("send", "one", "--connect", end).returncode == 0
        assert receiving.wait(20) == 0


@pytest.mark.parametrize("verb", ["broker", "proxy"])
def test_requests_pass_over_ipv6(verb, ends, tmp_path):
    (tmp_path / "echo.py").write_text("def answer(request):\n    return request\n")
    how = "--join" if verb == "broker" else "--connect"
    passing = running(verb, *ends, stderr=subprocess.PIPE)
    words = ("serve", "echo:answer", "--type", "rep", how, ends[1])
    with passing, running(*words, cwd=tmp_path, stderr=subprocess.PIPE):
        asked = run("request", "x", "--connect", ends[0], "--timeout", 30)
        assert (asked.returncode, asked.stdout) == (0, b"x\n")


def test_workers_serve_over_ipv6(ends, tmp_path, starting):
    (tmp_path / "echo.py").write_text("def answer(request):\n    return request\n")
    starting("serve", "echo:answer", "--bind", ends[0], "--workers", "1")
    asked = run("request", "x", "--connect", ends[0], "--timeout", 30)
    assert (asked.returncode, asked.stdout) == (0, b"x\n")


def test_a_monitor_sees_a_connection_over_ipv6(ends):
    words = ("monitor", "--type", "pull", "--bind", ends[0], "--count", "1")
    seen = run(*words)
    assert seen.returncode == 0, seen.stderr
    assert b"[::1]" in seen.stdout
