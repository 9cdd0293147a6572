"""`cupel completion`: the lines that teach a shell to complete commands and options."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print what makes SHELL complete Cupel's commands and options.

    \b
    Examples:
      eval "$(cupel completion bash)"      # in ~/.bashrc
      eval "$(cupel completion zsh)"       # in ~/.zshrc
      cupel completion fish > ~/.config/fish/completions/cupel.fish
    """
    from click.shell_completion import get_completion_class

    from cupel.cli.app import program

    kind = get_completion_class(shell)
    assert kind is not None  # click ships these three
    click.echo(kind(program, {}, "cupel", "_CUPEL_COMPLETE").source())
