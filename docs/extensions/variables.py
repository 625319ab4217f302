"""The directive ``option-variables``: the environment variable of each option of the command."""

from __future__ import annotations

from collections.abc import Iterator

import click
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from gzmqsource.cli._command import gzmqsource


def variables(command: click.Command, prefix: str) -> Iterator[tuple[str, click.Option]]:
    """Return the options of a verb that may be in the environment, by their variables."""
    for each in command.params:
        if isinstance(each, click.Option) and not each.hidden and each.name:
            if isinstance(each.envvar, str):
                yield each.envvar, each
            elif each.allow_from_autoenv:
                yield f"{prefix}_{each.name.upper()}", each


class OptionVariables(SphinxDirective):
    """A table for each verb, of which one opens where a reader wants it."""

    def run(self) -> list[nodes.Node]:
        """Return the tables."""
        context = click.Context(gzmqsource)
        lines: list[str] = []
        for verb in gzmqsource.list_commands(context):
            command = gzmqsource.get_command(context, verb)
            assert command is not None
            rows = [*variables(command, f"GZMQSOURCE_{verb.upper()}")]
            if rows:
                lines += [f".. dropdown:: {verb}", "", "   .. list-table::", ""]
                for name, option in rows:
                    lines += [f"      * - ``{name}``", f"        - ``{_words(option)}``"]
                lines.append("")
        return self.parse_text_to_nodes("\n".join(lines))


def _words(option: click.Option) -> str:
    return "/".join([option.opts[0], *option.secondary_opts])
