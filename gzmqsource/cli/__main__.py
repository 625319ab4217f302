"""``python -m gzmqsource.cli``: the command, as ``python -m gzmqsource``."""

from gzmqsource.cli import main

main()
