"""`cupel teach validate`: does a patch gain foretell what training brings?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.source import comma_list, json_option, set_setting_option
from cupel.cli.teach.phase import run_phase
from cupel.cli.teach.phase_options import (
    environment_of,
    environment_options,
    environment_settings,
    machine_options,
    student_settings,
)

_SHOWN = (
    ("Spearman, gain and effect", "spearman_rho", "spearman_ci"),
    ("partial, given p_base", "partial_spearman_given_p_base", None),
    ("Spearman, gain and log pi", "spearman_delta_log_pi", None),
    ("mean effect", "mean_effect", None),
    ("mean effect, Q1 less Q2", "q1_minus_q2", None),
)


@click.command()
@click.option(
    "--labeled",
    "--labeled-snapshots",
    "labeled",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="labeled_snapshots.jsonl (or .json) of phase 1.",
)
@click.option(
    "--base-model", help="Student that was labelled: tiny, a folder or a hub id  [default: tiny]."
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("results/phase1b"),
    show_default=True,
    help="Run folder; the two result files lie in it.",
)
@click.option("--n-per-quadrant", type=click.IntRange(min=1), help="[default: 50]")
@click.option("--n-steps", type=click.IntRange(min=1), help="Updates on a moment  [default: 2].")
@click.option("--learning-rate", type=float, help="Of AdamW, constant  [default: 0.001].")
@click.option(
    "--n-validation-rollouts",
    type=click.IntRange(min=1),
    help="Rollouts before and after, where success is not exact  [default: 3].",
)
@click.option(
    "--rollout-max-steps",
    type=click.IntRange(min=1),
    help="Steps of an episode; a rollout has what is left of them  [default: 15].",
)
@click.option(
    "--panel",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of snapshot ids to take, under 'panel' or 'tasks'.",
)
@click.option(
    "--retention-tasks",
    type=click.IntRange(min=0),
    help="Test tasks measured before and after each training  [default: 0].",
)
@click.option("--splits", help="Splits of the moments, a,b  [default: calibration].")
@click.option("--contrast-as", type=click.Choice(["text", "loss"]), help="[default: text]")
@click.option("--hint-as", type=click.Choice(["text", "distill"]), help="[default: text]")
@environment_options
@machine_options
@set_setting_option
@json_option
def command(
    labeled: Path,
    output_dir: Path,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
    **given: Any,
) -> int:
    """Train on single snapshots and compare with their patch gains.

    From the same start each time: a few updates on one moment in the format that its patch test
    chose, success measured before and after, exactly where the environment allows. Exit code 0:
    proceed to training; 1: revise the patch test; the run is complete either way, and continues
    where it was stopped.

    \b
    Examples:
      cupel teach validate --labeled results/phase1/labeled_snapshots.jsonl \\
        --output-dir results/phase1b --n-per-quadrant 50 --n-steps 2 --learning-rate 1e-3
      cupel teach validate --labeled labels.jsonl --base-model runs/student --threads 2
      cupel teach validate --labeled labels.jsonl --panel panel.json --contrast-as loss
    """
    from cupel.config import apply_overrides, merge

    settings = merge(apply_overrides({}, list(overrides)), _settings(labeled, given))
    values = run_phase(
        "teach.validate", settings, folder=output_dir, seed=seed, device=device, threads=threads
    )
    found = json.loads((output_dir / "cpt_correlation.json").read_text())
    if as_json:
        found.pop("data_points")
        console.print_json({"folder": str(output_dir), "values": values, **found})
    else:
        _show(output_dir, found)
    return 0 if found["proceed"] else EXIT_NO


def _settings(labeled: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Return what was passed, under the recipe's names."""
    asked = environment_settings(
        given["environment"], given["level"], given["mock_env"],
        max_steps=given["rollout_max_steps"],
    )  # fmt: skip
    settings: dict[str, Any] = {
        "labels": str(labeled),
        "student": student_settings(given["base_model"]),
        "environment": environment_of(labeled, asked),
        "micro": _given(given, "n_steps", "learning_rate"),
        **_given(given, "n_per_quadrant", "n_validation_rollouts", "retention_tasks"),
        **_given(given, "contrast_as", "hint_as"),
    }
    if given["panel"] is not None:
        settings["panel"] = str(given["panel"])
    if given["splits"] is not None:
        settings["splits"] = comma_list(given["splits"], flag="--splits")
    return {key: value for key, value in settings.items() if value != {}}


def _given(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names if values[name] is not None}


def _show(folder: Path, found: dict[str, Any]) -> None:
    rows = []
    for title, key, interval in _SHOWN:
        value = found[key]
        if interval is None:
            value, bounds = value["value"], (value["lo"], value["hi"])
        else:
            bounds = tuple(found[interval] or (None, None))
        rows.append([title, value, *bounds])
    console.table(["figure", "value", "lo", "hi"], rows, title=f"{found['n']} moments")
    ceiling = found["noise_ceiling"]["spearman"]
    if ceiling is not None:
        console.line(f"a perfect label could reach Spearman {ceiling:.2f} with this noise")
    for reason in found["reasons"]:
        console.warn(reason)
    if found["advice"]:
        console.warn(found["advice"])
    console.line(f"verdict: {'proceed' if found['proceed'] else 'revise'}; files: {folder}")
