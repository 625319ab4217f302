"""Running the ``gzmqsource`` command as a user does: in processes of its own."""

import sys

from gevent import subprocess

COMMAND = (sys.executable, "-m", "gzmqsource.cli")


def run(*arguments, **options):
    """Run a verb to its end."""
    options = {"capture_output": True, "timeout": 60, "check": False, **options}
    return subprocess.run([*COMMAND, *map(str, arguments)], **options)


def until_told(process, text):
    """Read what a process reports up to a line with a text, and return that."""
    for line in iter(process.stderr.readline, ""):
        if text in line:
            return line
    raise AssertionError(f"it has ended and not told {text!r}")
