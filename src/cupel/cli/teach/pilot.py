"""`cupel teach pilot`: every phase, one after the other, as the commands one would type.

Knows the order of the commands and what each reads from the one before. Refuses to do anything
that its printed commands would not do.
"""

from __future__ import annotations

import importlib
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.source import json_option

GATES = "pilot_gates.json"
SAMPLED = ("--set", "evaluation.probability=sampled")
"""Success at temperature 1 from eight rollouts a start: a third of the cost of computing it."""
SEEDLESS = ("thresholds", "train", "select", "figures", "tables")
"""Commands without --seed: they draw nothing, or take --seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    n_tasks: int
    max_steps: int
    max_snapshots: int
    eval_tasks: int
    panel: int
    micro: int
    baseline: int
    budget: int
    selection_seeds: str


@click.command()
@click.option(
    "--out-dir",
    type=click.Path(path_type=Path),
    default=Path("results/pilots/pilot"),
    show_default=True,
    help="Folder of all phases; a second call continues there.",
)
@click.option(
    "--base-model",
    default="tiny",
    show_default=True,
    help="The student: tiny (shipped), a model folder, or a hub id.",
)
@click.option(
    "--teacher-model",
    help="Ask this model for hints, through an OpenAI-compatible API. [default: the symbolic "
    "expert, offline]",
)
@click.option(
    "--skip-api", is_flag=True, help="Let the symbolic expert answer, whatever --teacher-model is."
)
@click.option("--mock-env", is_flag=True, help="The built-in shop; the default environment anyway.")
@click.option("--environment", default="shop", show_default=True, help="Environment.")
@click.option("--level", default="", help="Its level.")
@click.option(
    "--n-tasks", type=click.IntRange(min=2), default=400, show_default=True, help="Student tasks."
)
@click.option(
    "--max-steps", type=click.IntRange(min=1), default=15, show_default=True, help="Episode limit."
)
@click.option(
    "--max-snapshots", type=click.IntRange(min=1), default=360, show_default=True, help="To label."
)
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Seed.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Runs at a time."
)
@json_option
def command(
    out_dir: Path,
    base_model: str,
    teacher_model: str | None,
    skip_api: bool,
    mock_env: bool,
    environment: str,
    level: str,
    n_tasks: int,
    max_steps: int,
    max_snapshots: int,
    seed: int,
    workers: int,
    as_json: bool,
) -> int:
    """Run phases 0 to 5 end to end in minutes, then hold the numbers to gates.

    Every phase is printed as the command that runs it alone. What is complete is skipped, so the
    same command continues after an interruption. Exit code 1: a gate says no.

    \b
    Examples:
      cupel teach pilot
      cupel teach pilot --out-dir results/pilots/api --teacher-model gpt-4o-mini
      cupel teach pilot --n-tasks 800 --max-snapshots 800
    """
    from cupel.lab.files import write_json
    from cupel.teach.environments.base import EnvironmentConfig
    from cupel.teach.pilot_gates import check_pilot

    if mock_env:
        environment = "shop"
        console.note("--mock-env: the built-in shop, which is a real environment")
    if teacher_model is not None and skip_api:
        console.note(f"--skip-api: the symbolic expert answers instead of {teacher_model}")
        teacher_model = None
    size = _size(n_tasks, max_steps, max_snapshots)
    common = ["--seed", str(seed)]
    place = ["--environment", environment, *(["--level", level] if level else [])]
    for phase in _phases(out_dir, base_model, teacher_model, place, size, workers):
        _run([*phase, *([] if phase[0] in SEEDLESS else common)])
    gates = check_pilot(
        out_dir,
        EnvironmentConfig.model_validate(
            {"name": environment, "level": level, "max_steps": max_steps}
        ),
    )
    passed = all(gate.passed for gate in gates)
    report = {"passed": passed, "gates": [asdict(gate) for gate in gates]}
    write_json(out_dir / GATES, report)
    if as_json:
        console.print_json(report)
    else:
        console.line()
        console.table(
            ["gate", "criterion", "found", ""],
            [
                (gate.name, gate.criterion, gate.figure, "pass" if gate.passed else "FAIL")
                for gate in gates
            ],
        )
    return 0 if passed else EXIT_NO


def _size(n_tasks: int, max_steps: int, max_snapshots: int) -> Size:
    """Scale the later phases with the number of snapshots."""
    return Size(
        n_tasks=n_tasks,
        max_steps=max_steps,
        max_snapshots=max_snapshots,
        eval_tasks=min(200, max(10, n_tasks // 8)),
        panel=max(2, max_snapshots // 24),
        micro=max(2, max_snapshots // 45),
        baseline=max(4, max_snapshots // 9),
        budget=max(4, max_snapshots // 9),
        selection_seeds="42,101,202,303,404,505",
    )


def _phases(
    out: Path,
    model: str,
    teacher: str | None,
    place: Sequence[str],
    size: Size,
    workers: int,
) -> Iterator[list[str]]:
    """Yield the words of each command, in order."""
    zero, labels = out / "phase0", out / "phase1_labeling/labeled_snapshots.jsonl"
    steps = ["--max-steps", str(size.max_steps)]
    judged = [
        "--n-tasks", str(size.eval_tasks), "--n-snapshots-per-quadrant", str(size.panel),
        *steps, *SAMPLED,
    ]  # fmt: skip
    side = ["--workers", str(workers)]
    yield [
        "rollouts", "--model-path", model, "--n-tasks", str(size.n_tasks), *steps, *place,
        "--output", str(zero / "rollouts.json"),
    ]  # fmt: skip
    yield [
        "mine", "--rollouts", str(zero / "rollouts.json"),
        "--output", str(zero / "failure_snapshots.json"),
        "--max-snapshots", str(size.max_snapshots),
    ]  # fmt: skip
    yield [
        "expert", "--n-tasks", str(max(10, size.n_tasks // 8)), *steps, *place,
        "--output-dir", str(zero / "expert_trajectories"),
    ]  # fmt: skip
    yield [
        "sample",
        "--expert-trajectories", str(zero / "expert_trajectories/all_trajectories_*.json"),
        "--output", str(zero / "snapshots_expert.json"),
        "--sample-rate", "0.5", "--require-env-state",
    ]  # fmt: skip
    yield [
        "label", "--snapshots", str(zero / "failure_snapshots.json"),
        "--output-dir", str(labels.parent), "--student-checkpoint", model, *steps, *place,
        *(["--teacher-model", teacher] if teacher else ["--skip-api"]), "--assign-quadrants",
    ]  # fmt: skip
    yield [
        "thresholds", "--input", str(labels), "--output-dir", str(labels.parent / "threshold_plots")
    ]  # fmt: skip
    yield [
        "validate", "--labeled", str(labels), "--base-model", model,
        "--output-dir", str(out / "phase1b_micro"), "--n-per-quadrant", str(size.micro),
        "--rollout-max-steps", str(size.max_steps),
    ]  # fmt: skip
    yield [
        "train", "--labeled-snapshots", str(labels), "--base-model", model,
        "--output-dir", str(out / "phase2_training"), "--seeds", "42",
        "--baseline-n-samples", str(size.baseline), *judged, *side,
    ]  # fmt: skip
    yield [
        "evaluate",
        "--training-summary", str(out / "phase2_training/training_summary.json"),
        "--labeled-snapshots", str(labels), "--output-dir", str(out / "phase3_eval"),
        *judged,
    ]  # fmt: skip
    yield [
        "predict", "--labeled-snapshots", str(labels),
        "--output-dir", str(out / "phase4_predictor"), "--embedder", "hashing",
    ]  # fmt: skip
    yield [
        "select", "--labeled-snapshots", str(labels),
        "--predictor-path", str(out / "phase4_predictor/predictor/model.pt"),
        "--base-model", model, "--budget", str(size.budget),
        "--output-dir", str(out / "phase5_selection"), "--seeds", size.selection_seeds, *judged,
        *side,
    ]  # fmt: skip
    for name in ("figures", "tables"):
        yield [name, "--results-dir", str(out), "--output-dir", str(out / name)]


def _run(words: list[str]) -> None:
    """Print a command, run it, and say how long it took; a 1 of a phase's own gate is no stop."""
    console.line(f"\n$ cupel teach {shlex.join(words)}")
    module = importlib.import_module(f"cupel.cli.teach.{words[0]}")
    started = time.perf_counter()
    code = module.command.main(words[1:], f"cupel teach {words[0]}", standalone_mode=False)
    if isinstance(code, int) and code not in (0, EXIT_NO):
        raise SystemExit(code)
    console.note(f"{words[0]}: {time.perf_counter() - started:.0f} s")
