"""``python -m gzmqsource.cli``."""

from gzmqsource.cli import main

main()
