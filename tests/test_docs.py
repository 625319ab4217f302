"""Every code block of the README and of the docs runs as it stands, in processes of its own.

A Python block is a program; with a ``:caption:`` it is a file for the page's other blocks. A bash
block is typed into a shell. The ports of a page are exchanged for free ones.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from helpers import free_ports
from optional import needs

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

PROJECT = pathlib.Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(PROJECT)): path.read_text()
    for path in [PROJECT / "README.rst", *sorted((PROJECT / "docs").rglob("*.rst"))]
}

BLOCK = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n(?:   +:caption: (?P<caption>\S+)\n)?\n"
    r"(?P<text>(?:   .*\n|\n)+)",
    re.MULTILINE,
)

#: What cannot be run here: what a program says, and another program's settings.
NOT_CODE = {"text", "ini"}

#: What these scripts run.
SERVERS = {
    "docs/guides/celery.rst-1": ["celery"],
    "docs/guides/flask-socketio.rst-1": ["flask_socketio", "eventlet", "requests"],
    "docs/guides/uwsgi.rst-1": ["pyuwsgi"],
    "docs/guides/patched.rst-2": ["locust"],
    "docs/guides/wsgi.rst-1": ["flask", "gunicorn"],
    "docs/guides/from-zmqstream.rst-1": ["tornado"],
    "docs/guides/from-zerorpc.rst-1": ["zerorpc"],
}

#: What the pages say that their scripts print: all scripts of a page, or one by its number.
PRINTED = {
    "README.rst": "hello\tworld\n",
    "docs/index.rst": "hello\tworld\n",
    "docs/quickstart.rst": "1000 answers, one is HELLO 0\n",
    "docs/tutorial.rst-1": "order: apples\norder: pears\n",
    "docs/tutorial.rst-2": "100 orders packed, at most 20 at a time\n",
    "docs/tutorial.rst-3": "apples cost 3\nplums failed: KeyError: b'plums'\n"
    "melons took too long\n",
    "docs/tutorial.rst-4": "3\n4\n5\n",
    "docs/tutorial.rst-5": "4\n",
    "docs/shutdown.rst": "the first answer\n200 answers\n",
    "docs/guides/wsgi.rst": "42\n",
    "docs/guides/celery.rst": "WORD 49\nzmq        patched\n",
    "docs/guides/flask-socketio.rst": "both hear\n",
    "docs/guides/uwsgi.rst": "2450\n",
    "docs/environment.rst": "hello\tworld\n",
    "docs/metrics.rst": "hello\tworld\ngzmqsource_ready 1.0\n",
    "docs/guides/deployment.rst": "hello\tworld\nready\nstopped\n",
    "docs/guides/from-zmqstream.rst": "is anybody there?\nis anybody there?\n",
    "docs/guides/from-zerorpc.rst": "cool, man!\nKeyError: 'no_such'\ncool, man!\n",
    "docs/security.rst": "keys/server.key\nkeys/server.key_secret\n"
    "keys/client.key\nkeys/client.key_secret\na secret\n",
}


def blocks(page, *languages):
    return [
        (found["caption"], textwrap.dedent(found["text"]))
        for found in BLOCK.finditer(PAGES[page])
        if found["language"] in languages
    ]


def programs():
    for page in PAGES:
        for number, (caption, text) in enumerate(blocks(page, "python"), 1):
            if caption is None:
                yield pytest.param(text, id=f"{page}-{number}")


def scripts():
    for page in PAGES:
        for number, (_, text) in enumerate(blocks(page, "bash"), 1):
            name = f"{page}-{number}"
            needed = needs(*SERVERS.get(name, ()), extra="servers")
            yield pytest.param(page, text, id=name, marks=needed)


def test_no_block_escapes_being_run():
    for page, text in PAGES.items():
        languages = set(re.findall(r"^\.\. code-block:: *(\w*)", text, re.MULTILINE))
        assert languages <= {"python", "bash", *NOT_CODE}, page
        assert len(BLOCK.findall(text)) == text.count(".. code-block::"), page
        literal = re.findall(r"^(?!\.\. ).*::\n\n((?:    ?.*\n|\n)+)", text, re.MULTILINE)
        if page == "README.rst":  # its two commands, which a test cannot run within itself
            assert literal.pop(0).split("\n")[:2] == ["    make demo", "    make test"]
        assert not literal, page


@pytest.mark.parametrize("program", [*programs()])
def test_program_runs(program, tmp_path):
    command = [sys.executable, "-W", "error", "-c", program]
    finished = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize(("page", "script"), [*scripts()])
def test_script_does_what_the_page_says(page, script, tmp_path, request):
    ports = dict(zip(map(str, range(5555, 5560)), free_ports(5), strict=True))

    def with_ports(text):
        return re.sub(r"\b555[5-9]\b", lambda found: ports[found[0]], text)

    for caption, text in blocks(page, "python"):
        if caption is not None:
            (tmp_path / caption).write_text(with_ports(text))
    shell = subprocess.Popen(
        ["bash", "-e", "-c", with_ports(script)],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, errors = shell.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        end_session(shell.pid)
        out, errors = shell.communicate()
    logs = [path.read_text() for path in tmp_path.glob("log*")]
    assert shell.returncode == 0, "\n".join([out, errors, *logs])
    name = request.node.callspec.id
    assert out == PRINTED.get(name, PRINTED.get(page, out)), errors


def end_session(session):
    """End what a shell has left running, each in a process group of its own."""
    for name in os.listdir("/proc"):
        if name.isdigit() and os.getsid(int(name)) == session:
            os.kill(int(name), signal.SIGKILL)


def test_the_tour_loses_nothing():
    demo = PROJECT / "examples" / "demo.py"
    # As many requests wait at a time as in the demo, but the processes are not always busy.
    options = ["--clients", "2", "--count", "1000", "--work", "0.25"]
    command = [sys.executable, str(demo), *options]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "2,000 of 2,000" in finished.stdout
    assert "is stuck: its hub has not run for 3 s" in finished.stderr
    stuck, rolled = re.findall(r"([\d,]+) of ([\d,]+)", finished.stdout)[1:]
    assert stuck[0] == stuck[1]
    assert rolled[0] == rolled[1]
    assert re.search(r"executed twice +[\d,]+ +0\n", finished.stdout)
