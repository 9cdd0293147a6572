"""`cupel teach evaluate`: BASE and every trained model on tasks and failure states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO, Stop
from cupel.cli.source import comma_list, device_option, json_option, threads_option
from cupel.cli.teach.phase import run_phase
from cupel.cli.teach.phase_options import environment_of

_QUANTIZED = (
    "--load-in-{bits}bit: quantised models are not supported, because their action probabilities "
    "would not be those of the model that was trained; name the model with --base-model and add "
    "--set student.dtype=bfloat16 to halve the memory"
)


@click.command()
@click.option(
    "--training-summary",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="training_summary.json, or a JSON map from run ids to model folders.",
)
@click.option(
    "--labeled-snapshots",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="labeled_snapshots.jsonl; the failure panel is its panel split.",
)
@click.option(
    "--output-dir", type=click.Path(path_type=Path), required=True, help="Run folder; tables too."
)
@click.option(
    "--n-tasks", type=click.IntRange(min=1), default=200, show_default=True, help="Test tasks."
)
@click.option(
    "--n-snapshots-per-quadrant",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Failure states of each quadrant; a quadrant with fewer is reported short.",
)
@click.option(
    "--max-steps",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Steps of an episode.",
)
@click.option(
    "--panel-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Snapshot ids to use as the panel, of the panel split only.",
)
@click.option(
    "--holdout-frac",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of all tasks the panel may come from; at most the panel split, 0.2.",
)
@click.option("--base-model", help="BASE [default: the one the summary names].")
@click.option("--run-ids", help="Evaluate these runs only, a,b,c [default: all].")
@click.option("--candidate", help="Model of the gates [default: Q1_highU_highL_hint].")
@click.option("--environment", help="Environment [default: that of the labels].")
@click.option("--level", help="Its level [default: that of the labels].")
@click.option("--load-in-4bit", is_flag=True, hidden=True)
@click.option("--load-in-8bit", is_flag=True, hidden=True)
@click.option("--strict", is_flag=True, help="Exit with 1 when a headline gate says no.")
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Seed.")
@device_option
@threads_option
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Set any setting, e.g. --set evaluation.horizon=fresh. Repeatable; wins over flags.",
)
@json_option
def command(
    training_summary: Path,
    labeled_snapshots: Path,
    output_dir: Path,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    threads: int,
    strict: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Evaluate every trained model beside the untrained one, BASE.

    Greedy episodes on test tasks and from the failure panel, with exact success probabilities
    beside them; overall, per-quadrant, transfer, retention and stuckness tables; gates.json with
    the pass criteria. Stopped midway it continues with the next model.

    \b
    Examples:
      cupel teach evaluate --training-summary results/phase2/training_summary.json \\
        --labeled-snapshots results/phase1/labeled_snapshots.jsonl --output-dir results/phase3
      cupel teach evaluate --training-summary s.json --labeled-snapshots l.jsonl \\
        --output-dir out --n-tasks 50 --n-snapshots-per-quadrant 20 --json
    """
    from cupel.config import apply_overrides

    for bits in (4, 8):
        if given[f"load_in_{bits}bit"]:
            raise Stop(_QUANTIZED.format(bits=bits))
    settings = apply_overrides(
        _settings(training_summary, labeled_snapshots, given), list(overrides)
    )
    values = run_phase(
        "teach.evaluate", settings, folder=output_dir, seed=seed, device=device, threads=threads
    )
    judged = json.loads((output_dir / "gates.json").read_text())
    if as_json:
        console.print_json({"folder": str(output_dir), "values": values, **judged})
    else:
        _show(output_dir, judged)
    return EXIT_NO if strict and not judged["passed"] else 0


def _settings(summary: Path, labels: Path, given: dict[str, Any]) -> dict[str, Any]:
    asked = {"name": given["environment"], "level": given["level"]}
    environment = environment_of(labels, asked) | {"max_steps": given["max_steps"]}
    settings: dict[str, Any] = {
        "training_summary": str(summary),
        "labels": str(labels),
        "holdout_frac": given["holdout_frac"],
        "evaluation": {
            "environment": environment,
            "n_tasks": given["n_tasks"],
            "n_snapshots_per_quadrant": given["n_snapshots_per_quadrant"],
        },
    }
    if given["panel_file"] is not None:
        settings["panel_file"] = str(given["panel_file"])
    if given["candidate"] is not None:
        settings["candidate"] = given["candidate"]
    if given["run_ids"] is not None:
        settings["run_ids"] = comma_list(given["run_ids"], flag="--run-ids")
    if given["base_model"] is not None:
        from cupel.config import to_dict
        from cupel.teach.training.summary import base_student

        settings["student"] = to_dict(base_student(given["base_model"]))
    return settings


def _show(folder: Path, judged: dict[str, Any]) -> None:
    headline = [gate for gate in judged["gates"] if gate["headline"]]
    console.table(
        ["gate", "model", "figure", "lo", "hi", "n", "passed", "established"],
        [
            [
                gate["gate"],
                gate["model"],
                *(gate[key] for key in ("figure", "lo", "hi", "n", "passed", "established")),
            ]
            for gate in headline
        ],
        title="gates",
    )
    facts = json.loads((folder / "eval_config.json").read_text())
    for quadrant, count in facts["panel_short"].items():
        console.warn(
            f"quadrant {quadrant}: {count} failure states of the panel split, "
            f"{facts['n_snapshots_per_quadrant']} asked for; label more tasks to fill it"
        )
    if not facts["trained_snapshots_known"]:
        console.warn(
            "the summary does not say which snapshots were trained on; only the splits by task "
            "keep training and evaluation apart"
        )
    console.line(f"tables: {folder}")
