"""What the labelling commands share: who is labelled, who teaches, and how a run is shown.

Knows flags and the settings they stand for. Refuses to know how anything is measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.teach.phase import run_phase
from cupel.cli.teach.phase_options import environment_settings, student_settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

LABEL_FILES = ("labeled_snapshots.jsonl", "labeled_snapshots.json")
_COUNTS = ("moments", "moments_train", "with_U", "with_leverage", "with_patch_test", "with_depth",
           "mean_U", "mean_L_local", "mean_L_upper", "mean_ELP_net", "mean_ELP_split",
           "shown_to_help", "routes_undecided", "hints_leaking", "episodes")  # fmt: skip


def stage_options(stage: str) -> Callable[[CommandT], CommandT]:
    """Decorate the command of one stage with what it reads and where it writes."""

    def decorate(command: CommandT) -> CommandT:
        for option in (
            click.option(
                "--output-dir",
                type=click.Path(path_type=Path),
                required=True,
                help=f"labeled_snapshots.jsonl and .json go here, the run into {stage}/.",
            ),
            click.option(
                "--input",
                "source",
                type=click.Path(path_type=Path, dir_okay=False),
                required=True,
                help="Snapshots, plain or labelled; labels that they carry are kept.",
            ),
        ):
            command = option(command)
        return command

    return decorate


def student_options(command: CommandT) -> CommandT:
    """Decorate a command with who is labelled."""
    for option in (
        click.option(
            "--mock-policy", is_flag=True, help="A student without a model: every action alike."
        ),
        click.option(
            "--student-checkpoint",
            help="tiny (shipped), uniform, a model folder, or a hub id  [default: tiny].",
        ),
    ):
        command = option(command)
    return command


def teacher_options(command: CommandT) -> CommandT:
    """Decorate a command with who is asked for hints."""
    for option in (
        click.option("--skip-api", is_flag=True, help="Call nobody: the symbolic expert answers."),
        click.option("--mock-teacher", is_flag=True, help="The same as --skip-api."),
        click.option(
            "--teacher-model",
            help="expert, noisy_expert, or the model of an OpenAI-compatible API  "
            "[default: expert].",
        ),
    ):
        command = option(command)
    return command


def branch_options(command: CommandT) -> CommandT:
    """Decorate a command with how success probabilities are found."""
    for option in (
        click.option(
            "--budget",
            type=click.IntRange(min=0),
            help="Monte Carlo: episodes for all snapshots together; what the first rollouts leave "
            "goes to undecided ones  [default: the first rollouts only].",
        ),
        click.option(
            "--horizon",
            type=click.Choice(["remaining", "fresh"]),
            help="Steps of a branch: those its episode had left, or --max-steps anew  "
            "[default: remaining].",
        ),
        click.option(
            "--estimate",
            type=click.Choice(["auto", "exact", "monte_carlo", "both"]),
            help="Exact bounds, rollouts, or both; auto: exact where possible  [default: auto].",
        ),
        click.option(
            "--expert-checkpoint",
            help="A model as the expert of p_expert  [default: the environment's own expert].",
        ),
    ):
        command = option(command)
    return command


def patch_options(command: CommandT) -> CommandT:
    """Decorate a command with how notes are given."""
    for option in (
        click.option(
            "--n-per-condition",
            type=click.IntRange(min=1),
            help="Monte Carlo: first rollouts of each note  [default: 2].",
        ),
        click.option(
            "--patch-steps",
            type=click.Choice(["first", "every"]),
            help="Steps whose prompt carries the note  [default: first].",
        ),
    ):
        command = option(command)
    return command


def max_steps_option(command: CommandT) -> CommandT:
    """Decorate a command with the length of an episode."""
    return click.option(
        "--max-steps",
        type=click.IntRange(min=1),
        default=15,
        show_default=True,
        help="Steps of an episode from its task's start.",
    )(command)


def labelling_settings(
    snapshots: Path, stages: Sequence[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of `teach.label` for some stages, from the flags that were given."""
    settings: dict[str, Any] = {
        "snapshots": str(snapshots),
        "stages": list(stages),
        "environment": _environment(snapshots, given),
    }
    mock = given.get("mock_policy")
    student = student_settings("uniform" if mock else given.get("student_checkpoint"))
    if mock and given.get("student_checkpoint") is not None:
        raise Stop("--mock-policy is a student of its own; drop --student-checkpoint, or it")
    if student:
        settings["student"] = student
    if given.get("expert_checkpoint") not in (None, "expert"):
        settings["expert"] = student_settings(given["expert_checkpoint"])
    teacher = _teacher(given)
    if teacher:
        settings["teacher"] = teacher
    for flag in ("estimate", "horizon", "patch_steps", "primary_uncertainty"):
        if given.get(flag) is not None:
            settings[flag] = given[flag]
    if given.get("budget") is not None:
        settings["allocation"] = {"budget": given["budget"]}
    if given.get("n_per_condition") is not None:
        settings["rollouts"] = {"patch": given["n_per_condition"]}
    return settings


def run_stage(
    stage: str,
    source: Path,
    output_dir: Path,
    given: Mapping[str, Any],
    *,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Run one stage in `output_dir`/<stage> and hand its rows on to `output_dir`.

    Rows are handed on when the stage ends, not again by a second call: stages that came after it
    have added to them by then.
    """
    from cupel.config import apply_overrides
    from cupel.lab.run_dir import RunFolder

    settings = labelling_settings(source, [stage], given)
    settings["quadrants"] = {"assign": False}
    folder = output_dir / stage
    new = not (folder.is_dir() and RunFolder(folder).is_complete)
    values = run_phase(
        "teach.label",
        apply_overrides(settings, list(overrides)),
        folder=folder,
        seed=given["seed"],
        device=given["device"],
        threads=given["threads"],
    )
    for name in LABEL_FILES if new else ():
        temporary = output_dir / f".{name}.tmp"
        shutil.copyfile(folder / name, temporary)
        temporary.replace(output_dir / name)
    if not new:
        console.note(f"{folder} is complete; nothing was run and no file was changed")
    show_labels(values, output_dir, as_json=as_json)


def show_labels(values: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    """Print what was labelled, and name what was not."""
    if as_json:
        console.print_json({"folder": str(folder), "values": dict(values)})
        return
    console.table(["labels", "value"], [(name, values[name]) for name in _COUNTS])
    for name, meaning in (
        (
            "hints_invalid",
            "hints are invalid: no patch test there, leverage only of proven dead ends",
        ),
        ("without_hint", "moments were not asked about"),
        ("without_budget", "moments got no rollouts; raise --budget to label them too"),
        ("instrument_errors", "rollouts broke down; they count neither way"),
    ):
        if values[name]:
            console.warn(f"{values[name]} {meaning}")
    console.line(f"written: {folder / LABEL_FILES[0]}")


def _environment(snapshots: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment asked for, or that of the first snapshot."""
    from cupel.teach.labelling.files import read_labels

    asked = environment_settings(
        given.get("environment"), given.get("level"), bool(given.get("mock_env"))
    )
    rows = read_labels(snapshots)
    if not rows:
        raise Stop(f"{snapshots}: no snapshots; mine some with cupel teach mine")
    first = rows[0].moment.snapshot
    found = {"name": first.environment, "level": first.level} if "name" not in asked else {}
    return {**found, **asked, "max_steps": given["max_steps"]}


def _teacher(given: Mapping[str, Any]) -> dict[str, Any]:
    model = given.get("teacher_model")
    if given.get("skip_api") or given.get("mock_teacher"):
        if model not in (None, "expert"):
            console.note(
                f"nobody is called: the environment's symbolic expert answers instead of {model}"
            )
        return {}
    if model in (None, "expert"):
        return {}
    return {"kind": model} if model == "noisy_expert" else {"kind": "api", "model": model}
