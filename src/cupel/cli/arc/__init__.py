"""`cupel arc`: recursive models on ARC-AGI, trained, checked and judged.

Knows names and one line of help a command; a command's module is imported when it is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

from cupel.cli.app import Stop, suggestion

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Train": {
        "overfit": "Phase 1: can it learn 32 puzzle groups at all, using the demonstrations?",
        "train": "Train one model; settings as key=value.",
        "health": "Say in words whether a run is healthy, and what is wrong.",
    },
    "Judge": {
        "evaluate": "Vote over augmented test inputs: pass@k, a page, a submission.",
        "template": "Fill in the experiment record from run folders.",
    },
    "Look": {
        "preview": "Draw puzzles and what augmentation makes of them.",
        "figures": "Draw trainings side by side: learning, halting, encoder health.",
    },
}


class ArcGroup(click.Group):
    """Loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return its command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"cupel.cli.arc.{cmd_name}")
        found: click.Command = module.command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            raise Stop(
                f"no command 'arc {name}'; {suggestion(name, self.list_commands(ctx))}; "
                "see cupel arc --help"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of the help from the table, importing nothing."""
        width = max(len(name) for name in self.list_commands(ctx))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, line in commands.items()])


@click.group(name="arc", cls=ArcGroup, no_args_is_help=True)
def command() -> None:
    """Tiny recursive models on ARC-AGI with an encoder that reads the demonstrations.

    \b
    Examples:
      cupel arc overfit --preset cpu
      cupel arc train --config-name cfg_pretrain_etrm_arc_agi_1 max_train_groups=32 +run_name=first
      cupel arc evaluate --checkpoint logs/arc/first
    """
