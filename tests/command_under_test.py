"""Running the ``gzmqsource`` command as a user does: in processes of its own."""

import sys

from gevent import subprocess

COMMAND = (sys.executable, "-m", "gzmqsource.cli")


def run(*arguments, **options):
    """Run a verb to its end."""
    options = {"capture_output": True, "timeout": 60, "check": False, **options}
    return subprocess.run([*COMMAND, *map(str, arguments)], **options)
