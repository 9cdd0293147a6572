"""`cupel arc`: recursive models on ARC-AGI, trained, checked and judged.

Knows names and one line of help a command; a command's module is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from cupel.cli.app import LazyGroup

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


class ArcGroup(LazyGroup):
    """The commands of `cupel arc`."""

    package = "cupel.cli.arc"
    sections = SECTIONS


@click.group(name="arc", cls=ArcGroup, no_args_is_help=True)
def command() -> None:
    """Tiny recursive models on ARC-AGI with an encoder that reads the demonstrations.

    \b
    Examples:
      cupel arc overfit --preset cpu
      cupel arc train --config-name cfg_pretrain_etrm_arc_agi_1 max_train_groups=32 +run_name=first
      cupel arc evaluate --checkpoint logs/arc/first
    """
