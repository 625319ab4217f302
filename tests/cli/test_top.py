"""`top`, beside the server that it shows."""

import pytest
from command_under_test import COMMAND, run
from gevent import subprocess
from helpers import free_ports, process_of

from gzmqsource.cli._top import Reading, _quantile, _row

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


def test_the_table_of_a_server_follows_it_through_a_restart(serving, address):
    port = free_ports(1)[0]
    server = serving("--metrics", port)
    assert run("request", "--connect", address, "x").returncode == 0
    top = (*COMMAND, "top", port, "--interval", "0.2")
    with process_of(*top, stderr=subprocess.PIPE) as table:
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
    (labels,) = first.sources
    assert labels == ("PULL", "tcp://a")
    row = list(_row(first.sources[labels], second.sources[labels], 2))
    assert (row[0], row[5]) == ("1,000", "5")
    assert next(iter(_row(second.sources[labels], third.sources[labels], 1))) == "500"
    assert _quantile(first.lateness, second.lateness, 0.99) == "at most 1 ms"
    assert _quantile({}, third.lateness, 0.99) == "more than 10 ms"
    assert _quantile(first.lateness, first.lateness, 0.99) is None
