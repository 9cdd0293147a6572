"""`cupel teach`: from an agent's failures to a defended selection, phase by phase.

Knows names and one line of help a command; a command's module is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from cupel.cli.app import LazyGroup

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


class TeachGroup(LazyGroup):
    """The commands of `cupel teach`."""

    package = "cupel.cli.teach"
    sections = SECTIONS


@click.group(name="teach", cls=TeachGroup, no_args_is_help=True)
def command() -> None:
    """Find teachable moments: failure states where a little supervision changes the outcome.

    \b
    Examples:
      cupel teach pilot --out-dir results/pilot
      cupel teach rollouts --n-tasks 1000 --output results/phase0/rollouts.json
    """
