"""Running the ``gzmqsource`` command as a user does: in processes of its own."""

import sys

from gevent import subprocess
from gevent.socket import socket as Socket

COMMAND = (sys.executable, "-m", "gzmqsource.cli")


def run(*arguments, **options):
    """Run a verb to its end."""
    options = {"capture_output": True, "timeout": 20, "check": False, **options}
    return subprocess.run([*COMMAND, *map(str, arguments)], **options)


def free_port():
    with Socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
