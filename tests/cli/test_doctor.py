"""`doctor`: what programs read, its exit status, and a fix for each thing that is wrong."""

import json
import os
import resource

import pytest
from command_under_test import run
from helpers import free_ports, line_of, python_process

from gzmqsource import __version__
from gzmqsource.cli import _checkup
from gzmqsource.cli._reading import Process

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: The keys of all reports, and those of the facts of each.
REPORT = ["ok", "problems", "advice", "facts"]
OF_THIS = [
    *("gzmqsource", "path", "python", "python_kind", "gevent", "pyzmq", "pyzmq_backend", "libzmq"),
    *("libzmq_features", "event_loop", "event_loop_backend", "transfer", "transfer_reason"),
    *("patched", "file_descriptors", "file_descriptors_most"),
]
OF_A_PROCESS = ["pid", "loaded", "zmq_patched", "zmq_green_patched"]
OF_A_SERVER = [
    *("server", "gzmqsource", "pid", "uptime_seconds", "python", "gevent", "pyzmq", "libzmq"),
    *("transfer", "hub_lateness_99_seconds"),
]


def report_of(*words, **options):
    """Return the report, after a check of what all have in common."""
    finished = run("doctor", "--json", *words, **options)
    assert not finished.stderr
    report = json.loads(finished.stdout)
    assert list(report) == REPORT
    assert report["ok"] == (not report["problems"]) == (finished.returncode == 0)
    for finding in report["problems"] + report["advice"]:
        assert finding["kind"]
        assert finding["text"]
        assert finding["fix"]
    return report


def test_this_environment_has_a_report_for_programs():
    facts = report_of()["facts"]
    assert list(facts) == OF_THIS
    assert facts["gzmqsource"] == __version__
    assert facts["patched"] == []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (facts["file_descriptors"], facts["file_descriptors_most"]) == (soft, hard)


def test_what_could_be_better_is_an_advice_and_not_wrong():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    report = report_of(
        env=os.environ | {"GZMQSOURCE_TRANSFER": "pure", "GEVENT_LOOP": "libuv-cffi"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1])),
    )
    assert report["ok"]
    assert [each["kind"] for each in report["advice"]] == [
        "pure-transfer",
        "few-descriptors",
        "libuv",
    ]


def test_any_number_of_descriptors_is_enough():
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    program = f"""
import resource, sys
resource.getrlimit = lambda _: {unlimited}
sys.argv[1:] = ["doctor", "--json"]
from gzmqsource.cli import main
main()
"""
    with python_process(program) as process:
        report = json.loads(process.stdout.read())
    assert report["facts"]["file_descriptors"] is None
    assert "few-descriptors" not in {each["kind"] for each in report["advice"]}


def test_a_process_that_is_not_patched_is_wrong_and_its_fix_is_named():
    program = "import os, sys, gevent, zmq; print(os.getpid(), flush=True); sys.stdin.read()"
    with python_process(program) as process:
        pid = line_of(process)
        report = report_of("--pid", pid)
        lines = run("doctor", "--pid", pid).stdout.decode().splitlines()
    assert list(report["facts"]) == OF_A_PROCESS
    assert report["facts"]["loaded"] == ["gevent", "pyzmq"]
    assert report["facts"]["zmq_patched"] is False
    (problem,) = report["problems"]
    assert problem["kind"] == "not-patched"
    assert "patch_zmq()" in problem["fix"]
    assert lines[-2:] == [f"! {problem['text']}", f"  fix: {problem['fix']}"]


def test_a_server_has_a_report_for_programs(serving, address):
    port = free_ports(1)[0]
    process = serving("--metrics", port, "--max-frames", 9)
    assert run("request", "--connect", address, "x").returncode == 0
    report = report_of(port)
    assert report["ok"]
    assert list(report["facts"]) == OF_A_SERVER
    assert report["facts"]["pid"] == process.pid
    assert report["facts"]["uptime_seconds"] > 0
    assert set(report["facts"]["hub_lateness_99_seconds"]) == {"main"}
    frames = [word for _ in range(20) for word in ("--frame", "x")]
    run("request", "--connect", address, "--timeout", 1, *frames, "x")
    report = report_of(port)
    assert [each["kind"] for each in report["problems"]] == ["messages-dropped"]
    assert "--max-frames" in report["problems"][0]["fix"]


def test_every_reason_of_a_drop_has_a_fix():
    reasons = ("newest", "oldest", "oversized", "refused", "killed", "unsent", "unhandled")
    assert {*reasons, "unread"} == set(_checkup._FIXES)
    process = Process()
    process.drops["PULL", "tcp://x"] = {"oversized": 2.0, "another": 1.0, "unread": 0.0}
    (finding,) = _checkup._wrong_with("2", process)
    assert finding.worker == "2"
    assert finding.text == "worker 2: PULL tcp://x has dropped messages: 1 another, 2 oversized"
    assert finding.fix == f"{_checkup._FIXES['oversized']}; {_checkup._OTHER_DROP}"


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_no_report_is_an_error_with_nothing_on_the_standard_output(words):
    finished = run("doctor", free_ports(1)[0], *words)
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert finished.stderr.endswith(b"Connection refused\n")


@pytest.mark.parametrize("words", [("--pid", "0"), ("--pid", "x"), ("9100", "--pid", "1"), ("-x",)])
def test_a_wrong_call_of_the_doctor_ends_with_2(words):
    finished = run("doctor", "--json", *words)
    assert (finished.returncode, finished.stdout) == (2, b"")
