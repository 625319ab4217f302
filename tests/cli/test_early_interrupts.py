"""A Ctrl-C while the command is imported, and while a verb begins."""

import os
import signal
import sys

import pytest
from gevent import subprocess
from helpers import process_of

from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]

#: Sends a signal to itself at the first import of a module.
PROGRAM = """
import os, signal, sys
if {ignored}:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
from gzmqsource.cli import main
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
assert {module!r} not in sys.modules
sys.meta_path.insert(0, Interrupting())
main()
"""

#: The verbs, each with a module that is imported for it.
IMPORTS = {
    "click": ("doctor",),
    "rich": ("doctor",),
    "gzmqsource.cli._command": ("doctor",),
    "gzmqsource.cli._serve": ("serve", "json:dumps", "--bind", "tcp://127.0.0.1:*"),
    "zmq": ("send", "--connect", "tcp://127.0.0.1:1", "x"),
    "prometheus_client": ("top", "1"),
    "gzmqsource.cli._checkup": ("doctor", "1"),
}


def interrupted(module, verb, ignored=False):
    program = PROGRAM.format(module=module, ignored=ignored)
    return subprocess.run(
        [sys.executable, "-c", program, *verb], capture_output=True, timeout=50, check=False
    )


@pytest.mark.parametrize("module", IMPORTS)
def test_an_interrupt_during_an_import_ends_a_verb_in_silence(module):
    finished = interrupted(module, IMPORTS[module])
    assert finished.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert (finished.stdout, finished.stderr) == (b"", b"")


def test_an_interrupt_that_a_script_ignores_in_the_background_is_ignored():
    finished = interrupted("click", ("--version",), ignored=True)
    assert finished.returncode == 0, finished.stderr.decode()


MODULE = """
import time
try:
    open("importing", "w").close()
    time.sleep(60)
finally:
    open("cleaned up", "w").close()
"""


def test_an_interrupt_while_the_handler_s_module_is_imported_lets_it_clean_up(tmp_path):
    (tmp_path / "slow.py").write_text(MODULE)
    words = ("serve", "slow:answer", "--bind", "tcp://127.0.0.1:*")
    with process_of(
        *(sys.executable, "-m", "gzmqsource", *words),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:
        wait_until((tmp_path / "importing").exists, timeout=30)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 128 + signal.SIGINT
        assert process.stderr.read() == ""
        process.stderr.close()
    assert (tmp_path / "cleaned up").exists()
