"""`serve` while its module is reloaded, and what bounds a handler that yields."""

import os
import signal
import sys

import pytest
from command_under_test import COMMAND, run, until_told
from gevent import subprocess
from gevent.fileobject import FileObjectThread
from helpers import process_of

from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@pytest.fixture
def ask(context, address):
    with Requester.open(address, context=context, linger=0) as requester:
        yield lambda *payload: requester.request([*payload] or b"x", 10)


def hang_up(process):
    process.send_signal(signal.SIGHUP)


#: Holds up the first import of the command until its fifo is opened.
HELD_UP = """
import os, sys
open("entered", "w").close()
open("gate").close()
sys.path.remove(os.path.dirname(__file__))
del sys.modules["click"]
import click
"""


def test_a_hangup_before_all_is_imported_is_answered_once_the_server_is_up(tmp_path, address):
    (tmp_path / "served.py").write_text("answer = list")
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "click.py").write_text(HELD_UP)
    os.mkfifo(tmp_path / "gate")
    path = os.pathsep.join([str(tmp_path / "early"), *sys.path])
    with process_of(
        *(*COMMAND, "serve", "served:answer", "--bind", address),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    ) as process:
        wait_until((tmp_path / "entered").exists)
        hang_up(process)
        with FileObjectThread(tmp_path / "gate", "w"):
            pass
        assert until_told(process, "was reloaded")


BROKEN = {
    "raises": "TABLE = b'new'\nraise RuntimeError('bad deploy')\n",
    "exits": "TABLE = b'new'\nimport sys\nsys.exit()\n",
    "is interrupted": "TABLE = b'new'\nimport gevent\nraise gevent.Timeout(1)\n",
    "is no Python": "this is no Python",
    "has no function": "TABLE = b'new'\n",
    "has no function any more": "TABLE = b'new'\nanswer = None\n",
    "imports what is not there": "TABLE = b'new'\nimport no_such_module\n",
    "is gone": None,
}

OLD = """
TABLE = b"old"
def answer(request):
    import served
    return [TABLE, served.TABLE]
"""


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_reload_that_fails_leaves_all_of_the_old_code(serving, ask, tmp_path, content):
    served = tmp_path / "served.py"
    served.write_text(OLD)
    process = serving()
    assert ask() == [b"old", b"old"]
    if content is None:
        served.unlink()
    else:
        served.write_text(content)
    hang_up(process)
    assert "the old code stays in use" in until_told(process, "reloading failed")
    assert ask() == [b"old", b"old"]
    served.write_text(OLD.replace('b"old"', 'b"new, and longer"'))
    hang_up(process)
    until_told(process, "was reloaded")
    assert ask() == [b"new, and longer", b"new, and longer"]


PACKAGE = """
import {package}.part
import sys
STATE = "{version}"
def answer(request):
    assert sys.modules[__name__] is {package}
    return [STATE.encode(), {package}.part.NAME]
import {package}
"""


def test_a_package_is_reloaded_with_its_submodules(serving, ask, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "part.py").write_text("NAME = b'part'")
    (package / "__init__.py").write_text(PACKAGE.format(package="package", version="old"))
    process = serving(target="package:answer")
    assert ask() == [b"old", b"part"]
    (package / "__init__.py").write_text(PACKAGE.format(package="package", version="anew"))
    hang_up(process)
    until_told(process, "was reloaded")
    assert ask() == [b"anew", b"part"]


def test_a_module_of_a_package_is_reloaded_where_the_package_has_it(serving, ask, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    text = "import package.part\ndef answer(request):\n    return [b'old', package.part.NAME]\n"
    (package / "part.py").write_text(text + "NAME = b'old'\n")
    process = serving(target="package.part:answer")
    assert ask() == [b"old", b"old"]
    (package / "part.py").write_text(text + "NAME = b'anew'\n")
    hang_up(process)
    until_told(process, "was reloaded")
    assert ask() == [b"old", b"anew"]


#: A module that waits while it is loaded the second time, until a file is there.
SLOW = """
import os, gevent
VERSION = b"{version}"
if os.path.exists("loaded"):
    open("loading", "w").close()
    while not os.path.exists("go on"):
        gevent.sleep(0.01)
open("loaded", "w").close()
def answer(request):
    return VERSION
"""


def test_a_hangup_during_a_reload_is_not_lost(serving, ask, tmp_path):
    served = tmp_path / "slow.py"
    served.write_text(SLOW.format(version="first"))
    process = serving(target="slow:answer")
    served.write_text(SLOW.format(version="the second"))
    hang_up(process)
    wait_until((tmp_path / "loading").exists)
    assert ask() == [b"first"]  # the old code serves meanwhile
    served.write_text(SLOW.format(version="and the third"))
    for _ in range(3):
        hang_up(process)
    assert ask() == [b"first"]
    (tmp_path / "go on").write_text("")
    until_told(process, "was reloaded")
    until_told(process, "was reloaded")
    assert ask() == [b"and the third"]


FRAMES = """
import gevent, time
def few(request):
    yield b"one"
    gevent.sleep(0.01)
    yield b"two"
def waits(request):
    yield b"one"
    gevent.sleep(60)
def computes(request):
    while True:
        time.sleep(0.001)
        yield b"one"
def iterates(request):
    return map(lambda _: gevent.sleep(60), [1])
"""


@pytest.mark.parametrize("patch", ["--patch", "--no-patch"])
@pytest.mark.parametrize("handler", ["waits", "computes", "iterates"])
def test_a_handler_that_yields_for_too_long_is_ended(serving, address, tmp_path, handler, patch):
    (tmp_path / "frames.py").write_text(FRAMES)
    serving("--timeout", 0.2, patch, target=f"frames:{handler}")
    finished = run("request", "--connect", address, "x")
    assert "Timeout: 0.2 seconds" in finished.stderr.decode()


def test_a_handler_that_yields_in_time_answers(serving, ask, tmp_path):
    (tmp_path / "frames.py").write_text(FRAMES)
    serving("--timeout", 20, target="frames:few")
    assert ask() == [b"one", b"two"]
