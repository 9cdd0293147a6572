"""`cupel arc evaluate`: one checkpoint on held-out puzzles, or on those it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cupel.arc.evaluation_config import EvaluateConfig
from cupel.cli import console
from cupel.cli.flags import config_flags, passed
from cupel.cli.source import json_option
from cupel.cli.teach.phase import run_phase
from cupel.cli.teach.phase_options import machine_options

SHOWN = ("ARC/pass@1", "ARC/pass@2", "ARC/official@2", "ARC/pass@1000",
         "all.exact_accuracy", "em_at_halt", "all.accuracy", "all.q_halt_accuracy")  # fmt: skip


@click.command()
@click.option(
    "--out-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Run folder [default: evaluations/<view>_step_N beside the training's checkpoints].",
)
@click.option("--pictures", is_flag=True, help="Also draw every test input as PNG (extra 'plot').")
@config_flags(EvaluateConfig, without=("checkpoint",), defaults={"halt_max_steps": "as trained"})
@click.option(
    "--checkpoint",
    required=True,
    help="Run folder of a training, or one step_N folder in its checkpoints.",
)
@machine_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out_dir: Path | None,
    pictures: bool,
    checkpoint: str,
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
) -> None:
    """Answer every test input under many augmentations, vote, and score the votes.

    Killed, it continues where it stopped when called again. Writes predictions.jsonl,
    predictions.html and submission.json.

    \b
    Examples:
      cupel arc evaluate --checkpoint logs/arc/first --n-augmentations 128
      cupel arc evaluate --checkpoint logs/arc/first --view train_probe
    """
    from cupel.arc.trained import find_checkpoint
    from cupel.report.arc.figures import write_pictures
    from cupel.report.arc.predictions import write_predictions

    settings = passed(ctx) | {"checkpoint": checkpoint}
    found = find_checkpoint(Path(checkpoint))
    view = settings.get("view", "heldout")
    folder = out_dir or found.parent.parent / "evaluations" / f"{view}_{found.name}"
    values = run_phase(
        "arc.evaluate", settings, folder=folder, seed=seed, device=device, threads=threads
    )
    page = write_predictions(folder)
    drawn = write_pictures(folder) if pictures else []
    if as_json:
        console.print_json({"folder": str(folder), "values": values})
        return
    show(values)
    console.line(f"page: {page}")
    if drawn:
        console.line(f"pictures: {drawn[0].parent}")
    console.line(f"submission: {folder / 'submission.json'}")


def show(values: Mapping[str, Any]) -> None:
    """Print the rates with their intervals."""
    console.line(
        f"{values['puzzles']} puzzles of the view {values['view']}, {values['inputs']} test "
        f"inputs, {values['predictions']} predictions; {values['contamination']}"
    )
    rows = [
        [name, values[name], values[f"{name}_lo"], values[f"{name}_hi"], values[f"{name}_n"]]
        for name in SHOWN
    ]
    console.table(["rate", "value", "95 % from", "to", "n puzzles"], rows)
