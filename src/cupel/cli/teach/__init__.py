"""`cupel teach`: from an agent's failures to a defended selection, phase by phase.

Knows names and one line of help a command; a command's module is imported when it is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

from cupel.cli.app import Stop, suggestion

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "All of it, small": {
        "pilot": "Run phases 0 to 5 end to end in minutes and check the numbers.",
    },
    "Phase 0: failures": {
        "rollouts": "Let the student act on tasks; keep every step.",
        "mine": "Find the failure states worth labelling.",
        "expert": "Let an expert act on tasks.",
        "sample": "Sample states from expert trajectories (experiment B).",
    },
    "Phase 1: labels": {
        "label": "Label snapshots: uncertainty, leverage, patch gains, quadrant.",
        "hints": "Ask the teacher about each snapshot.",
        "uncertainty": "Label uncertainty only.",
        "leverage": "Label leverage only.",
        "patch": "Run the contextual patch test only.",
        "thresholds": "Plot U and L and suggest thresholds.",
        "quadrants": "Assign quadrants by chosen thresholds.",
        "depth": "Find how far back a failure could still be recovered.",
        "recover": "Write the expert's recovery trajectory of each snapshot.",
    },
    "Phase 1B: does a label predict what training brings?": {
        "validate": "Train on single snapshots and compare with their patch gains.",
    },
    "Phases 2 and 3: train and evaluate": {
        "train": "Train the matrix of quadrants and formats, with its baselines.",
        "evaluate": "Evaluate trained models: tasks, failure panel, transfer, retention.",
    },
    "Phases 4 and 5: predict and select": {
        "predict": "Train the predictor of teachability and rank against baselines.",
        "select": "Compare selections of equal size: random, entropy, predictor, oracle.",
    },
    "Paper": {
        "figures": "Draw figures H1 to H7 from result folders.",
        "tables": "Write tables H1 to H7 from result folders.",
    },
}


class TeachGroup(click.Group):
    """Loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return its command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"cupel.cli.teach.{cmd_name}")
        found: click.Command = module.command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            raise Stop(
                f"no command 'teach {name}'; {suggestion(name, self.list_commands(ctx))}; "
                "see cupel teach --help"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of the help from the table, importing nothing."""
        width = max(len(name) for name in self.list_commands(ctx))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, line in commands.items()])


@click.group(name="teach", cls=TeachGroup, no_args_is_help=True)
def command() -> None:
    """Find teachable moments: failure states where a little supervision changes the outcome.

    \b
    Examples:
      cupel teach pilot --out-dir results/pilot
      cupel teach rollouts --n-tasks 1000 --output results/phase0/rollouts.json
    """
