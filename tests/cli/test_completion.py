"""Completion in a shell, as a user types it."""

import os
import shutil
import sys

import pytest
from command_under_test import run
from gevent import subprocess
from terminals import Terminal

from gzmqsource.cli._command import _VERBS

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: The script that an installation puts on the PATH.
SCRIPT = f"""#!{sys.executable}
from gzmqsource.cli import main
main()
"""


@pytest.fixture
def path(tmp_path):
    """A PATH on which the command is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "gzmqsource"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def completions(path, *words):
    """Return what bash has for the last word of a command line, by the function of the script."""
    line = ["gzmqsource", *words]
    script = f"""
eval "$(gzmqsource completion bash)"
COMP_WORDS=({" ".join(f"'{word}'" for word in line)})
COMP_CWORD={len(words)}
_gzmqsource_completion gzmqsource
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    finished = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        capture_output=True,
        check=False,
        env=os.environ | {"PATH": path},
        timeout=60,
    )
    assert finished.stderr == b""
    return finished.stdout.decode().split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [*_VERBS]),
        (["se"], ["serve", "send"]),
        (["recv", "--fo"], ["--format"]),
        (["recv", "--format", ""], ["text", "hex", "json", "raw"]),
        (["recv", "--type", "x"], ["xsub", "xpub"]),
        (["completion", "z"], ["zsh"]),
        (["doctor", "--j"], ["--json"]),
    ],
)
def test_bash_completes_verbs_options_and_choices(path, words, expected):
    assert completions(path, *words) == expected


def test_bash_completes_what_is_typed_in_a_terminal(path, tmp_path):
    (tmp_path / "a message in a file").touch()
    bash = ("bash", "--noprofile", "--norc", "-i")
    with Terminal(*bash, cwd=tmp_path, PATH=path, PS1="> ", HISTFILE="") as terminal:
        terminal.until(">")
        terminal.type('eval "$(gzmqsource completion bash)"; echo is "loaded"\n')
        terminal.until("\nis loaded")
        terminal.type("gzmqsource moni\t")
        terminal.until("> gzmqsource monitor")
        terminal.type("--conn\t")
        terminal.until("> gzmqsource monitor --connect")
        terminal.type("\x15gzmqsource send --fi\ta\\ mess\t")
        terminal.until("send --file a\\ message\\ in\\ a\\ file")
        terminal.type("\x15exit\n")
        assert terminal.wait() == 0


def test_a_broken_file_of_options_does_not_disturb_completion(path, tmp_path, monkeypatch):
    (tmp_path / "broken.toml").write_text("this is not TOML")
    monkeypatch.setenv("GZMQSOURCE_CONFIG", str(tmp_path / "broken.toml"))
    finished = subprocess.run(
        ["gzmqsource"],
        capture_output=True,
        check=False,
        env=os.environ
        | {"PATH": path, "COMP_WORDS": "gzmqsource se", "COMP_CWORD": "1"}
        | {"_GZMQSOURCE_COMPLETE": "bash_complete"},
    )
    assert finished.stderr == b""
    assert finished.stdout == b"plain,serve\nplain,send\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_it_can_read(shell):
    finished = run("completion", shell)
    assert finished.returncode == 0
    assert f"_GZMQSOURCE_COMPLETE={shell}_complete" in finished.stdout.decode()
    if found := shutil.which(shell):
        read = subprocess.run(
            [found, "-n"], input=finished.stdout, capture_output=True, check=False
        )
        assert (read.returncode, read.stderr) == (0, b"")


def test_the_help_says_how_to_load_the_completion():
    assert 'eval "$(gzmqsource completion bash)"' in run("--help").stdout.decode()
    text = run("completion", "--help").stdout.decode()
    for shell in "bash", "zsh", "fish":
        assert f"gzmqsource completion {shell}" in text
    assert run("completion", "tcsh").returncode == 2
