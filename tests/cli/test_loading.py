"""`serve` with a module that is broken: the user's own frames, and one line with the reason."""

import contextlib
import json
import os
import signal
from typing import Any

import pytest
from command_under_test import COMMAND, run, until_told
from gevent import subprocess

from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

SERVE = ("serve", "--bind", "tcp://127.0.0.1:*")

#: Modules that cannot be imported, and the line and the frames of each.
BROKEN = {
    "syntax": (
        "def answer(:\n",
        "importing served failed: SyntaxError: invalid syntax (served.py, line 1)",
        ["served.py"],
    ),
    "import": (
        "import no_such_module\n",
        "importing served failed: ModuleNotFoundError: No module named 'no_such_module'",
        ["served.py"],
    ),
    "name": (
        "from json import no_such_name\n",
        "importing served failed: ImportError: cannot import name 'no_such_name' from 'json'",
        ["served.py"],
    ),
    "exception": (
        "def begin():\n    raise ValueError('no settings')\nbegin()\n",
        "importing served failed: ValueError: no settings",
        ["served.py", "served.py"],
    ),
    "exception in the library": (
        "import json\njson.loads('{')\n",
        "importing served failed: JSONDecodeError: Expecting property name",
        ["served.py"],
    ),
    "exception of a module that it imports": (
        "import other\n",
        "importing served failed: KeyError: 'settings'",
        ["served.py", "other.py"],
    ),
    "exception of another kind": (
        "import gevent\nraise gevent.GreenletExit('enough')\n",
        "importing served failed: GreenletExit: enough",
        ["served.py"],
    ),
    "exception with a cause": (
        "try:\n    {}['x']\nexcept KeyError as error:\n    raise OSError('bad') from error\n",
        "importing served failed: OSError: bad",
        ["served.py", "served.py"],
    ),
}

#: Codes of modules that exit, with the text of each.
EXITS = {
    "import sys\nsys.exit(0)\n": "SystemExit(0)",
    "import sys\nsys.exit(2)\n": "SystemExit(2)",
    "raise SystemExit\n": "SystemExit()",
    "raise SystemExit('no settings')\n": "SystemExit('no settings')",
}


def frames_in(text):
    """Return the names of the files in a traceback."""
    files = [line.split('"')[1] for line in text.splitlines() if line.strip().startswith("File ")]
    return [os.path.basename(each) for each in files]


@pytest.fixture
def write(tmp_path):
    (tmp_path / "other.py").write_text("{}['settings']\n")
    return (tmp_path / "served.py").write_text


@pytest.mark.parametrize(("text", "line", "frames"), BROKEN.values(), ids=BROKEN)
def test_a_broken_module_shows_its_own_frames_and_one_line(tmp_path, write, text, line, frames):
    write(text)
    finished = run(*SERVE, "served:answer", cwd=tmp_path)
    first, *below = finished.stderr.decode().splitlines()
    assert finished.returncode == 1
    assert first.startswith(f"Error: {line}")
    assert all(each.startswith("    ") for each in below)
    assert frames_in("\n".join(below)) == frames


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["alone", "workers"])
@pytest.mark.parametrize(("text", "reason"), EXITS.items(), ids=EXITS.values())
def test_a_module_that_exits_is_no_success(tmp_path, write, text, reason, workers):
    write(text)
    finished = run(*SERVE, "served:answer", *workers, cwd=tmp_path)
    assert finished.returncode == 1
    written = finished.stderr.decode()
    assert f"served exits while it is imported: {reason}" in written
    assert frames_in(written) == ["served.py"]


def test_the_log_of_json_has_the_frames_of_a_broken_module_apart(tmp_path, write):
    write(BROKEN["exception"][0])
    finished = run("--log-format", "json", *SERVE, "served:answer", cwd=tmp_path)
    record = json.loads(finished.stderr)
    assert record["message"] == "importing served failed: ValueError: no settings"
    assert frames_in(record["exception"]) == ["served.py", "served.py"]


def test_an_installed_handler_shows_the_installed_frames(tmp_path):
    (tmp_path / "installed.py").write_text("1 / 0\n")
    # To this process, what is in the folder is installed.
    program = f"""
import sysconfig
sysconfig.get_path = lambda _: {str(tmp_path)!r}
from gzmqsource.cli import main
main()
"""
    finished = subprocess.run(
        [COMMAND[0], "-c", program, *SERVE, "installed:answer"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert frames_in(finished.stderr.decode()) == ["installed.py"]


WRONG = {
    "a file": ("served.py:answer", 2, "not a file: use served:answer"),
    "a path": ("./served.py:answer", 2, "not a file: use served:answer"),
    "a path in a folder": ("package/part.py:answer", 2, "not a file: use package.part:answer"),
    "an absolute path": ("/srv/served.py:answer", 2, "not a file: use served:answer"),
    "a file without a function": ("served.py", 2, "not a file: use served:FUNCTION"),
    "dots for the colon": ("served.answer", 2, "is MODULE:FUNCTION: use served:answer"),
    "no function": ("served:", 2, "'served:': the handler is MODULE:FUNCTION"),
    "a relative module": (".served:answer", 2, "the handler is MODULE:FUNCTION"),
    "no module": ("nowhere:answer", 1, "there is no module 'nowhere' in "),
    "a module that is mistyped": ("sreved:answer", 1, ": did you mean served?"),
    "no module in a package": ("package.no:answer", 1, "there is no module 'package.no'"),
    "a class for a module": ("served.Class:answer", 1, "use served:Class.answer"),
    "a package": ("package:answer", 1, "the package package has no answer: there is package.part:"),
    "a folder": ("folder:answer", 1, "the directory folder has no answer: there is folder.part:"),
    "a function that is mistyped": ("served:anwser", 1, "has no anwser: did you mean answer?"),
    "no such function": ("served:x", 1, "served has no x: there is answer, Class, wait"),
    "a constant": ("served:LIMIT", 1, "cannot be called: it is of the type int"),
    "a coroutine function": ("served:wait", 1, "is a coroutine function"),
    "an attribute that raises": ("lazy:answer", 1, "importing lazy failed: OSError: not now"),
}

SERVED = """
LIMIT = 5
def answer(request):
    return request
class Class:
    answer = staticmethod(answer)
async def wait(request):
    pass
import weakref
reference = weakref.ref(Class)  # callable, and without a name of a module
"""


@pytest.mark.parametrize(("target", "status", "text"), WRONG.values(), ids=WRONG)
def test_a_wrong_handler_is_one_line_with_the_fix(tmp_path, write, target, status, text):
    write(SERVED)
    for folder in "package", "folder":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part.py").write_text(SERVED)
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "lazy.py").write_text("def __getattr__(name):\n    raise OSError('not now')\n")
    finished = run(*SERVE, target, cwd=tmp_path)
    told = finished.stderr.decode()
    assert finished.returncode == status
    assert text in told
    assert sum(each.startswith("Error: ") for each in told.splitlines()) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_workers_with_a_broken_module_show_its_frames_once(tmp_path, write, count):
    text, line, frames = BROKEN["exception"]
    write(text)
    finished = run(*SERVE, "--workers", count, "served:answer", cwd=tmp_path)
    told = finished.stderr.decode()
    assert finished.returncode == 1
    assert told.count(line) == 1
    assert frames_in(told) == frames
    assert told.splitlines()[-1] == "Error: no worker was ready, and all have ended: see above"


def test_a_reload_of_a_broken_module_shows_its_frames_in_the_log(serving, tmp_path):
    process = serving()
    text, line, frames = BROKEN["exception"]
    for _ in range(2):
        (tmp_path / "served.py").write_text(text)
        process.send_signal(signal.SIGHUP)
        told = until_told(process, "reloading failed")
        assert told.endswith(f"reloading failed, the old code stays in use: {line}\n")
        below = [process.stderr.readline() for _ in range(6)]
        assert frames_in("".join(below)) == frames
        assert below[-1] == "    ValueError: no settings\n"


def test_each_reload_of_workers_shows_the_frames_of_a_broken_module_once(serving, tmp_path):
    process = serving("--workers", 1)
    until_told(process, "is ready")
    (tmp_path / "served.py").write_text(BROKEN["exception"][0])
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
        assert "ValueError: no settings" in until_told(process, "has ended with exit status 1")
        until_told(process, "the workers continue with the old code")


def test_a_removed_directory_serves_what_is_installed(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    with _in_directory(gone, remove=True) as start:
        process = start("json:dumps")
        assert b"pid" in process.stderr.readline()
        process.terminate()
        assert process.wait() == 0


def test_a_removed_directory_is_named_by_serve(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    with _in_directory(gone, remove=True) as start:
        process = start("served:answer")
        told = process.stderr.read().decode()
        assert process.wait() == 1
    assert told.startswith("Error: there is no module 'served', and the current directory was")
    assert told.count("\n") == 1


def test_a_directory_that_cannot_be_read_is_named_by_serve(tmp_path, write):
    write(SERVED)
    locked = tmp_path / "locked"
    locked.mkdir()
    with _in_directory(locked, remove=False) as start:
        process = start("served:answer")
        told = process.stderr.read().decode()
        assert process.wait() == 1
    assert f"there is no module 'served', and {locked} cannot be read: Permission denied" in told
    assert told.count("\n") == 1


#: Has the superuser, as whom the suite may run, obey the permissions of files like others.
AS_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()

#: Enters a directory, has it removed or locked, and runs the command there.
ENTER = """
import os, sys
os.chdir(sys.argv[1])
open(sys.argv[2], "w").close()
sys.stdin.read()
os.execvp(sys.argv[3], sys.argv[3:])
"""


@contextlib.contextmanager
def _in_directory(directory, remove):
    """Give a function that starts `serve` in a directory that is removed, or locked."""
    processes: list[Any] = []
    entered = directory.parent / "entered"

    def start(target):
        command = [*AS_OTHERS, *COMMAND, *SERVE, target]
        process: Any = subprocess.Popen(
            [COMMAND[0], "-c", ENTER, directory, entered, *command],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        wait_until(entered.exists)
        directory.rmdir() if remove else directory.chmod(0)
        process.stdin.close()
        return process

    try:
        yield start
    finally:
        if not remove:
            directory.chmod(0o700)
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stderr.close()
