"""`cupel teach label`: phase 1 in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.source import json_option, set_setting_option
from cupel.cli.teach.label_options import (
    branch_options,
    labelling_settings,
    max_steps_option,
    patch_options,
    show_labels,
    student_options,
    teacher_options,
)
from cupel.cli.teach.phase import run_phase
from cupel.cli.teach.phase_options import environment_options, machine_options


@click.command()
@click.option(
    "--snapshots",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="failure_snapshots.json or snapshots.jsonl of cupel teach mine; or labelled ones.",
)
@click.option(
    "--output-dir", type=click.Path(path_type=Path), required=True, help="Run folder; labels too."
)
@student_options
@teacher_options
@branch_options
@patch_options
@max_steps_option
@click.option("--skip-leverage", is_flag=True, help="No leverage, and so no quadrants.")
@click.option("--skip-cpt", is_flag=True, help="No contextual patch test.")
@click.option(
    "--assign-quadrants/--no-assign-quadrants",
    default=None,
    help="Cut U and L_local into quadrants  [default: assign].",
)
@click.option(
    "--primary-uncertainty",
    type=click.Choice(["entropy", "entropy_norm", "margin", "topk_spread", "effective_actions"]),
    help="What stands as U  [default: entropy].",
)
@click.option(
    "--threshold-method",
    type=click.Choice(["median", "percentile_75", "manual"]),
    help="How the cuts are fitted, on training tasks  [default: median].",
)
@click.option("--U-threshold", "u_threshold", type=float, help="Cut of U  [default: fitted].")
@click.option(
    "--L-threshold",
    "l_threshold",
    type=float,
    help="Cut of L_local, e.g. an effect size of 0.1  [default: fitted].",
)
@click.option(
    "--min-per-quadrant",
    type=click.IntRange(min=1),
    help="Training moments that each quadrant should have  [default: 100].",
)
@click.option("--resume", is_flag=True, hidden=True, help="A stopped labelling always continues.")
@environment_options
@machine_options
@set_setting_option
@json_option
def command(
    snapshots: Path,
    output_dir: Path,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Label snapshots: hints, uncertainty, leverage, patch gains, depth, quadrant.

    Stopped midway, the same command continues; outcomes.jsonl holds every rollout, and labels are
    derived from it over all snapshots at once.

    \b
    Examples:
      cupel teach label --snapshots results/phase0/failure_snapshots.json \\
        --output-dir results/phase1 --student-checkpoint models/student --assign-quadrants
      cupel teach label --snapshots s.json --output-dir out --teacher-model gpt-4o-mini \\
        --estimate monte_carlo --budget 50000 --L-threshold 0.1
      cupel teach label --snapshots s.jsonl --output-dir smoke --mock-policy --mock-teacher \\
        --skip-leverage --skip-cpt
    """
    from cupel.config import apply_overrides

    skipped = {"leverage": given["skip_leverage"], "patch": given["skip_cpt"]}
    stages = [
        stage
        for stage in ("hints", "uncertainty", "leverage", "patch", "depth")
        if not skipped.get(stage)
    ]
    settings = labelling_settings(snapshots, stages, given)
    quadrants = _quadrants(given)
    if quadrants:
        settings["quadrants"] = quadrants
    values = run_phase(
        "teach.label",
        apply_overrides(settings, list(overrides)),
        folder=output_dir,
        seed=seed,
        device=device,
        threads=threads,
    )
    show_labels(values, output_dir, as_json=as_json)
    if not as_json:
        _show_gates(output_dir)


def _quadrants(given: dict[str, Any]) -> dict[str, Any]:
    named = {
        "assign": given["assign_quadrants"],
        "method": given["threshold_method"],
        "U_threshold": given["u_threshold"],
        "L_threshold": given["l_threshold"],
        "min_per_quadrant": given["min_per_quadrant"],
    }
    if given["skip_leverage"] and given["assign_quadrants"] is None:
        named["assign"] = False
    return {key: value for key, value in named.items() if value is not None}


def _show_gates(folder: Path) -> None:
    facts = json.loads((folder / "labeling_metadata.json").read_text())
    cut = facts["quadrants"]
    if cut["thresholds"] is not None:
        at = cut["thresholds"]
        console.table(["quadrant", "moments"], list(cut["counts"].items()))
        console.line(f"cuts: U > {at['U_threshold']:.4g}, L_local > {at['L_threshold']:.4g}")
    elif cut["problem"] is not None:
        console.warn(f"no quadrant was assigned: {cut['problem']}")
    console.table(
        ["gate", "allowed", "figure", "passed"],
        [[gate[key] for key in ("gate", "allowed", "figure", "passed")] for gate in facts["gates"]],
    )
    short = facts["gates"][0]["short"]
    if short and cut["thresholds"] is not None:
        console.warn(
            f"training moments are few in {', '.join(f'{n} ({c})' for n, c in short.items())}; "
            "collect more rollouts, or move a cut with cupel teach quadrants"
        )
