"""`top`, beside the server that it shows."""

import io

import pytest
from command_under_test import run, running
from gevent import subprocess
from helpers import free_ports
from rich.console import Console

from gzmqsource.cli._reading import Reading, milliseconds, quantile
from gzmqsource.cli._top import _row, _table

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


def test_the_table_of_a_server_follows_it_through_a_restart(serving, address):
    port = free_ports(1)[0]
    server = serving("--metrics", port)
    assert run("request", "--connect", address, "x").returncode == 0
    top = ("top", port, "--interval", "0.2")
    with running(*top, stderr=subprocess.PIPE) as table:
        lines = iter(table.stdout.readline, "")
        row = next(line for line in lines if address in line).split()
        assert row[:2] == ["ROUTER", address]
        server.terminate()
        assert server.wait(timeout=20) == 0
        assert any("Connection refused" in line for line in lines)
        serving("--metrics", port)
        assert any(address in line for line in lines)
        table.terminate()
        assert table.wait(timeout=20) == 0


def test_no_server_for_the_table_is_an_error_and_enough_of_it_is_none(serving):
    port = free_ports(1)[0]
    finished = run("top", port)
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert f"http://127.0.0.1:{port}/metrics: Connection refused" in finished.stderr.decode()
    serving("--metrics", port)
    assert run("top", port, "--interval", "0.1", "--count", 2).stdout.count(b"endpoint") == 2


def test_a_table_tells_what_came_since_the_last():
    text = """
# TYPE gzmqsource_received_messages counter
gzmqsource_received_messages_total{{source="Source",type="PULL",endpoint="tcp://a"}} {received}
# TYPE gzmqsource_dropped_messages counter
gzmqsource_dropped_messages_total{{source="Source",type="PULL",endpoint="tcp://a",reason="x"}} 2
gzmqsource_dropped_messages_total{{source="Source",type="PULL",endpoint="tcp://a",reason="y"}} 3
# TYPE gzmqsource_hub_lateness_seconds histogram
gzmqsource_hub_lateness_seconds_bucket{{le="0.001"}} {soon}
gzmqsource_hub_lateness_seconds_bucket{{le="0.01"}} {soon}
gzmqsource_hub_lateness_seconds_bucket{{le="+Inf"}} {all}
"""
    first = Reading.of(text.format(received=1000, soon=100, all=100))
    second = Reading.of(text.format(received=3000, soon=200, all=200))
    third = Reading.of(text.format(received=500, soon=100, all=200))
    sources = [each.main.sources for each in (first, second, third)]
    (labels,) = sources[0]
    assert labels == ("PULL", "tcp://a")
    row = list(_row(sources[0][labels], sources[1][labels], 2))
    assert (row[0], row[5]) == ("1,000", "5")
    assert next(iter(_row(sources[1][labels], sources[2][labels], 1))) == "500"
    late = [each.main.lateness for each in (first, second, third)]
    assert quantile(late[0], late[1], 0.99) == 0.001
    assert milliseconds(0.001, late[1]) == "at most 1 ms"
    assert quantile({}, late[2], 0.99) == float("inf")
    assert milliseconds(float("inf"), late[2]) == "more than 10 ms"
    assert quantile(late[0], late[0], 0.99) is None


def of_process(worker, **numbers):
    """Return numbers of a source, and those of its process, as an answer for all has them."""
    label = f',worker="{worker}"' if worker else ""
    for name, value in numbers.items():
        yield f'gzmqsource_{name}{{source="Source",type="ROUTER",endpoint="x"{label}}} {value}'
    own = f'{{worker="{worker}"}}' if worker else ""
    yield f"gzmqsource_ready{own} {int(worker != '10')}"
    for bound, count in ("0.001", 50), ("5.0", 100), ("+Inf", 100):
        comma = f',worker="{worker}"' if worker else ""
        yield f'gzmqsource_hub_lateness_seconds_bucket{{le="{bound}"{comma}}} {count}'


def shown(before, now):
    """Return the lines of the table, on a terminal of 80 columns."""
    out = io.StringIO()
    Console(file=out, width=80).print(_table(Reading.of(before), Reading.of(now)))
    return out.getvalue().splitlines()


def test_a_server_with_workers_has_a_row_for_each_and_its_queue_within_80_columns():
    most = {"broker_requests_total": 1e8, "broker_replies_total": 9_999_999, "errors_total": 1e9}
    queue = {"broker_running": 99_999, "broker_waiting": 100_000, "broker_workers": 3}
    lines = [*of_process("", **most, **queue, dropped_messages_total=12_345_678)]
    for worker in "1", "2", "10":
        worked = {"responder_requests_total": 7, "responder_replies_total": 6}
        took = {"handler_seconds_count": 1000, "handler_seconds_sum": 9_999_999}
        lines += of_process(worker, **worked, **took, responder_running=1, responder_waiting=0)
    now = "\n".join(lines) + "\n"
    table = shown("# TYPE gzmqsource_ready gauge\n", now)
    assert max(map(len, table)) <= 80
    names, *rows, told = table
    assert names.split() == [
        *("process", "state", "in/s", "out/s", "running", "waiting"),
        *("dropped", "errors", "ms", "late"),
    ]
    assert [row.split()[:2] for row in rows] == [
        ["master", "ready"],
        ["1", "ready"],
        ["2", "ready"],
        ["10", "not"],
    ]
    assert rows[0].split()[4:8] == ["99,999", "100k", "12,346k", "1,000M"]
    assert rows[1].split()[4:] == ["1", "0", "0", "0", "10,000k", "5000"]
    for each in "waiting 100k", "running 99,999", "workers 3", "requests 100M":
        assert each in told
    assert "refused" not in told
    again = shown(now, now)
    assert again[1].split()[2:4] == ["0", "0"]


def test_a_name_that_a_server_answers_with_is_no_markup_and_nothing_that_a_terminal_obeys():
    now = Reading(1.0)
    now.main.sources["ROUTER", "x"] |= {"broker_workers": 1.0, "broker_[/x]\x1b[31m": 2.0}
    out = io.StringIO()
    Console(file=out, width=80).print(_table(Reading(0.0), now))
    assert out.getvalue().splitlines()[-1].strip() == "[/x]\\x1b[31m 2, workers 1"
