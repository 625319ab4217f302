"""``python -m gzmqsource``: the command, also where its script is not on the ``PATH``."""

from gzmqsource.cli import main

main()
