"""The reasons that a verb gives in one line."""

import pytest
import zmq
from command_under_test import run

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


def error_of(*arguments, status):
    finished = run(*arguments)
    assert finished.returncode == status
    assert finished.stdout == b""
    return finished.stderr.decode().splitlines()[-1]


def test_a_receiver_that_gets_too_few_reports_how_many(address):
    arguments = ("recv", "--bind", address, "--timeout", 0.1, "--count")
    assert error_of(*arguments, 1, status=1) == "Error: 0 of 1 message came: none for 0.1 s"
    assert error_of(*arguments, 5, status=1) == "Error: 0 of 5 messages came: none for 0.1 s"


@pytest.mark.parametrize("verb", ["proxy", "broker"])
def test_two_sides_at_one_endpoint_are_refused(address, verb):
    error = error_of(verb, address, address, status=2)
    assert error == f"Error: FRONT and BACK are both {address}: each needs an endpoint of its own"


@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
@pytest.mark.parametrize("name", ["../x", "/tmp/x", ""])
def test_keys_are_not_written_elsewhere_than_into_the_directory(tmp_path, name):
    folder = tmp_path / "keys"
    error = error_of("keygen", folder, "--name", name, status=2)
    assert error.endswith("this is not the name of a file in DIRECTORY")
    assert not [*tmp_path.iterdir()]
