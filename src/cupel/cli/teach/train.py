"""`cupel teach train`: the matrix of quadrants and formats, with its baselines, as a study."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import Stop, suggestion
from cupel.cli.execution import execute_and_judge, run_options
from cupel.cli.plan import make_plan, plan_facts, save_plan, show_plan
from cupel.cli.source import comma_list, json_option, seed_list, set_setting_option, study_from

FEW_SEEDS = (42, 101, 202)
"""Seeds of a matrix of large models: enough to see their spread, too few for a test."""


@click.command()
@click.option(
    "--labeled-snapshots",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="labeled_snapshots.jsonl; only moments of training tasks are trained on.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings of all runs: .toml, .json or .yaml; sections student, sft, evaluation, or "
    "training and lora with the documented keys.",
)
@click.option(
    "--base-model",
    default="tiny",
    show_default=True,
    help="tiny, or a folder or hub id of a Hugging Face causal language model.",
)
@click.option("--output-dir", type=click.Path(path_type=Path), required=True, help="Study folder.")
@click.option("--run-ids", help="Train these runs only, a,b,c [default: the 14].")
@click.option(
    "--max-train-samples", type=click.IntRange(min=1), help="Most moments of a run [default: all]."
)
@click.option(
    "--baseline-n-samples",
    type=click.IntRange(min=1),
    help="Moments of B1_uniform [default: --max-train-samples, else 500].",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Examples of a pass [default: 8].")
@click.option(
    "--gradient-accumulation-steps",
    type=click.IntRange(min=1),
    help="Passes of an update [default: 1].",
)
@click.option("--seeds", help="Seeds, a,b,c [default: ten for the tiny student, else 42,101,202].")
@click.option("--seed", type=click.IntRange(min=0), help="One seed; --seeds wins over it.")
@click.option(
    "--controls",
    help="More runs, a,b,c: matched (a uniform subset as large as each quadrant), dagger, "
    "shuffled (random labels).",
)
@click.option(
    "--episodes",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of cupel teach rollouts, for --controls dagger.",
)
@click.option("--max-steps", type=click.IntRange(min=1), help="Of evaluated episodes.")
@click.option(
    "--n-tasks",
    type=click.IntRange(min=1),
    help="Test tasks that every run is evaluated on for the verdict [default: 200].",
)
@click.option(
    "--n-snapshots-per-quadrant",
    type=click.IntRange(min=0),
    help="Failure states of each quadrant for the same [default: 100].",
)
@click.option("--environment", help="Environment [default: that of the labels].")
@click.option("--level", help="Its level [default: that of the labels].")
@click.option("--dry-run", is_flag=True, help="Plan and say what would run; run nothing.")
@set_setting_option
@run_options
@json_option
def command(
    labeled_snapshots: Path,
    config_file: Path | None,
    base_model: str,
    output_dir: Path,
    run_ids: str | None,
    seeds: str | None,
    seed: int | None,
    controls: str | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Train 12 quadrant x format models and two baselines, each on every seed, beside BASE.

    The folder is a study: called again it runs what is missing; cupel status, cupel run and
    cupel report work on it. Writes training_matrix.json, training_summary.json and
    training_meta.json for cupel teach evaluate. A failed run does not stop the others.

    \b
    Examples:
      cupel teach train --labeled-snapshots results/phase1/labeled_snapshots.jsonl \\
        --output-dir results/phase2
      cupel teach train --labeled-snapshots l.jsonl --config configs/experiment.yaml \\
        --base-model Qwen/Qwen3-0.6B --output-dir results/phase2 --dry-run
      cupel teach train --labeled-snapshots l.jsonl --output-dir out --controls matched,shuffled
    """
    from cupel.teach.labelling.files import read_labels
    from cupel.teach.training.matrix import matrix_study, runnable
    from cupel.teach.training.matrix_files import RECORD, write_matrix

    labels = read_labels(labeled_snapshots)
    if not labels:
        raise Stop(f"{labeled_snapshots}: no labelled snapshots; label some first")
    extra = _controls(controls, given["episodes"])
    runs = _runs(run_ids, extra)
    shared = _shared(config_file, base_model, overrides, labels[0], given)
    planned = matrix_study(
        labels=str(labeled_snapshots),
        name=output_dir.resolve().name,
        run_ids=runs,
        seeds=_seeds(seeds, seed, shared),
        shared=shared,
        baseline_n_samples=given["baseline_n_samples"],
        max_train_samples=given["max_train_samples"],
        episodes=None if given["episodes"] is None else str(given["episodes"]),
    )
    planned, left_out = runnable(planned, labels)
    for name, reason in left_out.items():
        console.warn(f"{name} is left out: {reason}")
    record = {
        "left_out": left_out,
        "config_yaml": None if config_file is None else str(config_file),
        "max_train_samples": given["max_train_samples"],
        "baseline_n_samples": given["baseline_n_samples"],
        "run_filter": None if run_ids is None else runs,
        "controls": extra,
    }
    source = study_from(planned, where="teach train", out=output_dir)
    plan = make_plan(source)
    save_plan(source, plan, record={RECORD: record})
    if not as_json:
        show_plan(plan, output_dir)
    elif dry_run:
        console.print_json(plan_facts(plan, output_dir) | {RECORD: record})
    if dry_run:
        write_matrix(output_dir)
        console.note(f"next: cupel run {shlex.quote(str(output_dir))}")
        return 0
    return _execute(output_dir, given, as_json=as_json)


def _execute(folder: Path, given: dict[str, Any], *, as_json: bool) -> int:
    """Run, judge, and write the files of the matrix, also when a run failed."""
    from cupel.teach.training.matrix_files import write_matrix_files

    try:
        return execute_and_judge(folder, given["execution"], as_json=as_json)
    finally:
        summary = write_matrix_files(folder)
        console.note(
            f"{summary['n_completed']} of {summary['n_runs']} models of the first seed; next: "
            f"cupel teach evaluate --training-summary "
            f"{shlex.quote(str(folder / 'training_summary.json'))} --labeled-snapshots ... "
            "--output-dir ..."
        )


def _controls(text: str | None, episodes: Path | None) -> list[str]:
    from cupel.teach.training.matrix import CONTROLS, control_runs

    names = [] if text is None else comma_list(text, flag="--controls")
    for name in names:
        if name not in CONTROLS:
            raise Stop(f"--controls: no control '{name}'; {suggestion(name, CONTROLS)}")
    if "dagger" in names and episodes is None:
        raise Stop(
            "--controls dagger needs --episodes: the folder of cupel teach rollouts, whose states "
            "it is trained on"
        )
    return control_runs([each for each in CONTROLS if each in names])


def _runs(run_ids: str | None, controls: Sequence[str]) -> list[str]:
    from cupel.teach.training.matrix import MATRIX_RUNS

    runs = list(MATRIX_RUNS) if run_ids is None else comma_list(run_ids, flag="--run-ids")
    return [*runs, *(run for run in controls if run not in runs)]


def _seeds(text: str | None, one: int | None, shared: dict[str, Any]) -> list[int]:
    from cupel.teach.training.matrix import MATRIX_SEEDS

    if text is not None:
        return seed_list(text)
    if one is not None:
        return [one]
    return list(MATRIX_SEEDS if shared["student"].get("backend") == "tiny" else FEW_SEEDS)


def _shared(
    config_file: Path | None,
    base_model: str,
    overrides: Sequence[str],
    first: Any,
    given: dict[str, Any],
) -> dict[str, Any]:
    """Return the settings of all runs: the file, then --set, then the flags."""
    from cupel.cli.teach.experiment_file import read_experiment
    from cupel.config import apply_overrides, merge
    from cupel.teach.training.summary import base_student

    snapshot = first.moment.snapshot
    environment = {
        "name": given["environment"] or snapshot.environment,
        "level": snapshot.level if given["level"] is None else given["level"],
    }
    if given["max_steps"] is not None:
        environment["max_steps"] = given["max_steps"]
    found = base_student(base_model)
    student = {"backend": found.backend} | ({"model": found.model} if found.model else {})
    sft = {
        key: given[key]
        for key in ("batch_size", "gradient_accumulation_steps")
        if given[key] is not None
    }
    settings = {} if config_file is None else read_experiment(config_file)
    settings = apply_overrides(settings, list(overrides))
    judged = {
        key: given[key] for key in ("n_tasks", "n_snapshots_per_quadrant") if given[key] is not None
    }
    evaluation = {"environment": environment, **judged}
    flags = {"student": student, "evaluation": evaluation, "sft": sft}
    return merge(settings, flags)
