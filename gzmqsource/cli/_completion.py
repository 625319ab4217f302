"""``completion``: the script with which a shell completes verbs, options and values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

#: The name of the command, and the variable in which the script asks it for completions.
_NAME, _VARIABLE = "gzmqsource", "_GZMQSOURCE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write the script that completes this command in a shell.

    The shell evaluates it at its start, and then completes verbs, options, files and choices. The
    command itself has to be on the PATH as gzmqsource.

    \b
    Example:
      in ~/.bashrc:
        eval "$(gzmqsource completion bash)"
      in ~/.zshrc, after compinit:
        eval "$(gzmqsource completion zsh)"
      in ~/.config/fish/config.fish:
        gzmqsource completion fish | source
    """
    make = get_completion_class(shell)
    assert make is not None  # of click's own
    click.echo(make(context.find_root().command, {}, _NAME, _VARIABLE).source())
