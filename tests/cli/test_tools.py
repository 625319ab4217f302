"""`bench`, `keygen` and `doctor`."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import stat
import sys

import click
import gevent
import pytest
import zmq.auth
from command_under_test import run, running
from gevent import subprocess
from helpers import line_of, python_process
from optional import needs

from gzmqsource import __version__
from gzmqsource.cli import _doctor
from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


PROJECT = pathlib.Path(__file__).parents[2]


@needs("matplotlib", extra="plot")
def test_a_benchmark_gives_ratios_and_a_picture(tmp_path):
    picture = tmp_path / "rates.svg"
    finished = run("bench", "--count", 1000, "--runs", 1, "--plot", picture)
    assert finished.returncode == 0, finished.stderr
    text = finished.stdout.decode()
    for line in ("receive, 1 frame", "receive, 3 frames", "send, 1 frame", "send, 3 frames"):
        assert line in text
    assert picture.read_text().startswith("<?xml")


@needs("matplotlib", extra="plot")
def test_a_picture_is_named_as_it_is(tmp_path):
    picture = tmp_path / "[red]rates[/].svg"
    picture.parent.mkdir(parents=True)
    finished = run("bench", "--count", 1000, "--runs", 1, "--plot", picture)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.decode().splitlines()[-1] == f"drawn into {picture}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_a_benchmark_that_is_killed_leaves_no_process_behind():
    with running("bench", "--count", 5_000_000, "--runs", 1) as process:
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(children.read_text)
        (peer,) = map(int, children.read_text().split())
        process.kill()
        try:
            with gevent.Timeout(20):
                assert process.stdout.read() == ""  # the peer has it, too
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(peer, signal.SIGKILL)


KEYS = ("x.key", "x.key_secret")


def test_keys_are_for_this_user_alone_and_pyzmq_reads_them(tmp_path):
    folder = tmp_path / "one" / "two"
    mask = os.umask(0)
    try:
        assert run("keygen", folder, "--name", "x").returncode == 0
    finally:
        os.umask(mask)
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in KEYS] == [0o600, 0o600]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    public, secret = zmq.auth.load_certificate(folder / "x.key_secret")
    assert secret is not None
    assert zmq.curve_public(secret) == public
    assert zmq.auth.load_certificate(folder / "x.key") == (public, None)
    assert secret not in (folder / "x.key").read_bytes()


@pytest.mark.parametrize("taken", KEYS)
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder", "fifo"])
def test_no_key_takes_the_place_of_anything_or_goes_through_a_link(tmp_path, taken, kind):
    folder, target = tmp_path / "keys", tmp_path / "target"
    folder.mkdir()
    path = folder / taken
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
        if kind == "link":
            target.write_text("mine")
    finished = run("keygen", folder, "--name", "x")
    assert finished.returncode == 1
    assert f"{path} exists already: choose another --name" in finished.stderr.decode()
    assert [each.name for each in folder.iterdir()] == [taken]
    assert target.exists() == (kind == "link")
    for mine in (path, target):
        assert not mine.is_file() or mine.read_text() == "mine"


def test_a_key_that_cannot_be_written_leaves_no_file(tmp_path):
    finished = run(
        "keygen",
        tmp_path / "keys",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (170, 170)),
    )
    assert finished.returncode == 1
    assert b"File too large" in finished.stderr
    assert not [*(tmp_path / "keys").iterdir()]


def test_the_doctor_tells_what_is_in_use():
    finished = run("doctor", env=os.environ | {"GZMQSOURCE_TRANSFER": "pure"})
    assert finished.returncode == 0
    text = finished.stdout.decode()
    assert "not tested" not in text
    assert "pure: GZMQSOURCE_TRANSFER=pure" in text
    assert "- the transfer in Python is slower" in text
    assert "fix: unset GZMQSOURCE_TRANSFER" in text


DOCTOR = "from gzmqsource.cli import main; sys.argv[1:] = ['doctor']; main()"


def python(program, folder, **environment):
    """Run a program beside a copy of the package, with no metadata of it."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{program}"],
        cwd=folder,
        env={**os.environ, "GZMQSOURCE_TRANSFER": "pure", "COLUMNS": "300", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def copy(tmp_path):
    """A folder with a package of another version, of which nothing is installed."""
    shutil.copytree(PROJECT / "gzmqsource", tmp_path / "gzmqsource")
    root = tmp_path / "gzmqsource" / "__init__.py"
    root.write_text(root.read_text().replace(f'"{__version__}"', '"999.0"'))
    return tmp_path


#: What an application that carries the package has: no metadata of it.
NOT_INSTALLED = """
from importlib import metadata
find = metadata.Distribution.from_name
def from_name(name):
    if name == "gzmqsource":
        raise metadata.PackageNotFoundError(name)
    return find(name)
metadata.Distribution.from_name = from_name
"""


@pytest.mark.parametrize("before", ["", NOT_INSTALLED])
def test_the_version_and_the_place_are_those_of_what_runs(copy, before):
    version = f"{before}\n{DOCTOR}".replace("doctor", "--version")
    assert "version 999.0\n" in python(version, copy).stdout
    report = python(f"{before}\n{DOCTOR}", copy).stdout.splitlines()
    assert report[0].strip().split(maxsplit=1) == ["gzmqsource", f"999.0, in {copy}/gzmqsource"]


def test_a_place_that_is_longer_than_a_line_is_whole():
    long = python(DOCTOR, PROJECT).stdout.replace("\n", "").replace(" ", "")
    narrow = python(DOCTOR, PROJECT, COLUMNS="40").stdout.replace("\n", "").replace(" ", "")
    assert narrow == long


@pytest.mark.parametrize(("version", "warns"), [("23.9.1", True), ("24.2.1", False)])
def test_the_doctor_warns_of_a_gevent_that_no_install_admits(copy, version, warns):
    program = f"""
import gevent
gevent.__version__ = {version!r}
{DOCTOR}
"""
    assert ("! gevent before 24.2.1 is not tested" in python(program, copy).stdout) == warns
    declared = (PROJECT / "setup.cfg").read_text()
    assert "gevent >= 24.2.1" in declared


def test_a_wrong_transfer_is_refused_in_one_line():
    finished = run("doctor", env=os.environ | {"GZMQSOURCE_TRANSFER": "turbo"})
    assert finished.returncode == 2
    assert finished.stderr == b"Error: GZMQSOURCE_TRANSFER='turbo': use native or pure\n"


def report_on(pid):
    """Return what the doctor says of a process: the facts, and the warnings."""
    finished = run("doctor", "--pid", pid, env=os.environ | {"COLUMNS": "200"})
    assert not finished.stderr
    lines = [line.rstrip() for line in finished.stdout.decode().splitlines()]
    facts = dict(line.split(maxsplit=1) for line in lines if line.startswith(("loaded", "zmq")))
    warnings = [line.removeprefix("! ") for line in lines if line.startswith("!")]
    assert finished.returncode == bool(warnings)
    return facts, warnings


WAIT = """
print(os.getpid(), flush=True)
sys.stdin.read()
"""

BLOCKS = "a call that waits on a socket of zmq blocks the whole hub"

PROGRAMS = {
    "patched": (
        "import gevent.monkey; gevent.monkey.patch_all(zmq=True)",
        {"loaded": "gevent, pyzmq", "zmq": "patched", "zmq.green": "the drop-in"},
        [],
    ),
    "switched": (
        "from gzmqsource.monkey import patch_zmq_green; patch_zmq_green()",
        {"loaded": "gevent, pyzmq", "zmq": "not patched", "zmq.green": "the drop-in"},
        [BLOCKS],
    ),
    "not patched": (
        "import gevent.monkey; gevent.monkey.patch_all(); import zmq",
        {"loaded": "gevent, pyzmq", "zmq": "not patched", "zmq.green": "not patched"},
        [BLOCKS],
    ),
    "without gevent": (
        "import zmq",
        {"loaded": "pyzmq", "zmq": "not patched", "zmq.green": "not patched"},
        [],
    ),
    "without pyzmq": (
        "",
        {"loaded": "neither gevent nor pyzmq", "zmq": "not patched", "zmq.green": "not patched"},
        [],
    ),
}


@pytest.mark.parametrize(("program", "facts", "warnings"), PROGRAMS.values(), ids=list(PROGRAMS))
def test_the_doctor_knows_of_a_running_process_whether_it_is_patched(program, facts, warnings):
    with python_process(f"import os, sys\n{program}\n{WAIT}") as process:
        assert report_on(line_of(process)) == (facts, warnings)


def test_the_doctor_knows_what_the_patch_did_not_reach():
    program = "import os, sys, warnings, zmq; warnings.simplefilter('ignore'); c = zmq.Context()"
    program += "\nfrom gzmqsource.monkey import patch_zmq; patch_zmq()"
    with python_process(program + WAIT) as process:
        facts, (warning,) = report_on(line_of(process))
    assert facts["zmq"] == "patched"
    assert "1 zmq.Context made before still block the whole hub" in warning


def test_a_forked_child_is_patched_and_a_new_program_is_not():
    program = """
import os, subprocess, sys
from gzmqsource.monkey import patch_zmq; patch_zmq()
child = os.fork()
if child:
    other = subprocess.Popen(
        [sys.executable, "-c", "import sys, zmq; print(1, flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False,
    )
    other.stdout.readline()
    print(child, other.pid, flush=True)
    sys.stdin.read()
    other.communicate()
    os.waitpid(child, 0)
else:
    sys.stdin.read()
"""
    with python_process(program) as process:
        child, other = line_of(process).split()
        assert report_on(child)[0]["zmq"] == "patched"
        assert report_on(other)[0]["zmq"] == "not patched"


def test_a_blocked_process_answers_too():
    program = "import os, sys, time, zmq\nfrom gzmqsource.monkey import *; patch_zmq()\n"
    program += "s = get_original('Context')().socket(zmq.PULL)\nprint(os.getpid(), flush=True)\n"
    with python_process(program + "s.recv()") as process:
        assert report_on(line_of(process))[0]["zmq"] == "patched"


def test_no_such_process_is_an_error():
    finished = run("doctor", "--pid", 2**22 + 1)
    assert finished.returncode == 1
    assert "there is no process 4194305" in finished.stderr.decode()


NAMED_ALIKE = """
import os, sys
descriptor = os.memfd_create("gzmqsource-patch-zmq")
os.write(descriptor, sys.argv[1].encode())
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="a file in memory is Linux's")
@pytest.mark.parametrize("content", ["", "nonsense", '{"a": 1}', "[1, [2]]", "[" * 100_000])
def test_a_process_that_claims_nonsense_has_a_report(content):
    with python_process(NAMED_ALIKE, content) as process:
        line_of(process)
        finished = run("doctor", "--pid", process.pid)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert b"no known problems" in finished.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_a_process_that_ends_while_it_is_looked_at_is_one_that_is_not_there(monkeypatch):
    def packages_of(pid):
        with open(f"/proc/{pid}/maps") as file:
            process.kill()
            process.wait()
            return file.read()

    monkeypatch.setattr(_doctor, "packages_of", packages_of)
    with (
        python_process("import sys; sys.stdin.read()") as process,
        pytest.raises(click.ClickException, match=f"there is no process {process.pid}"),
    ):
        _doctor._report_on_process(process.pid)


@pytest.mark.skipif(os.getuid() == 0, reason="root may look at every process")
def test_the_process_of_another_user_is_an_error():
    finished = run("doctor", "--pid", 1)
    assert finished.returncode == 1
    assert "process 1 cannot be read: it is another user's" in finished.stderr.decode()
