"""`cupel evaluate`: checkpoints and models on held-out problems, alone or side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.evaluation_output import show
from cupel.cli.source import comma_list, device_option, set_setting_option, threads_option
from cupel.cli.tables import chosen, format_flags
from cupel.cli.train import execute_one

if TYPE_CHECKING:
    from cupel.lab.plan import RunSpec
    from cupel.report.evaluation_tables import Evaluated
    from cupel.rlvr.evaluation_rates import By
    from cupel.rlvr.evaluation_target import Target, Which

RECIPE_NAME = "rlvr.evaluate"
MODEL_SEED = 42


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="RUN_OR_MODEL [RUN_OR_MODEL]")
@click.option(
    "--checkpoint",
    metavar="STEP|last|all",
    help="Checkpoint of a run: that after STEP updates (0: its start), the newest, or every one "
    "it kept [default: last].",
)
@click.option(
    "--problems", type=click.IntRange(min=1), help="Held-out problems [default: as in training]."
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    help="Completions a problem [default: as in training].",
)
@click.option(
    "--pass-at", metavar="K,K,...", help="Report pass@k for every K [default: as in training]."
)
@click.option("--greedy/--no-greedy", default=None, help="Greedy decoding too [as in training].")
@click.option(
    "--by",
    type=click.Choice(["subject", "level"]),
    multiple=True,
    help="Also show every subject or level. Repeatable.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help=f"Seed of the samples [default: the run's, under which it evaluated itself; {MODEL_SEED} "
    "for a model].",
)
@device_option
@threads_option
@click.option(
    "--out-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the evaluations [default: evaluations/ in the run; logs/evaluate for models].",
)
@set_setting_option
@format_flags
@click.pass_context
def command(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    checkpoint: str | None,
    by: tuple[By, ...],
    seed: int | None,
    device: str,
    threads: int,
    out_dir: Path | None,
    overrides: tuple[str, ...],
    **given: Any,
) -> None:
    """Put held-out problems to a run's checkpoint or to a model; compare two on the same problems.

    RUN_OR_MODEL is a run folder of cupel train, a step_N folder in its checkpoints, a model or
    adapter folder, a hub id, tiny or toy. Of a run, everything is taken from its config.json:
    model, problems, prompt, grading, sampling; whatever is changed is said. Every problem and
    every completion is kept as a row, and an evaluation that was stopped continues.

    \b
    Examples:
      cupel evaluate logs/train
      cupel evaluate logs/train --samples 16 --pass-at 1,4,16 --by level
      cupel evaluate logs/train --checkpoint all
      cupel evaluate tiny logs/train
    """
    from cupel.rlvr.evaluation_target import find_targets

    kind = chosen(**{name: given.pop(name) for name in list(given) if name.startswith("as_")})
    if len(targets) > 2:
        raise Stop(f"evaluate: {len(targets)} names; give one, or two to compare")
    which = _which(checkpoint)
    if len(targets) == 2 and which == "all":
        raise Stop("--checkpoint all with two names: choose one checkpoint of each to compare")
    asked = _settings(overrides, **given)
    if "checkpoint" in asked:
        raise Stop("--set checkpoint=...: name the checkpoint, or its run and --checkpoint STEP")
    found = find_targets(targets, which)
    plans = [_plan(target, asked, seed) for target in found]
    if len(plans) == 2 and len(targets) == 2:
        _refuse_other_problems(plans)
    done = [
        _execute(target, spec, out_dir, device=device, threads=threads)
        for target, spec in zip(found, plans, strict=True)
    ]
    folders = [folder for folder, _ in done]
    evaluated = [one for _, one in done]
    show(evaluated, folders, by=by, compared=len(targets) == 2, kind=kind)


def _which(text: str | None) -> Which | None:
    if text is None:
        return None
    if text == "last":
        return "last"
    if text == "all":
        return "all"
    if not text.isascii() or not text.isdigit():
        raise Stop(f"--checkpoint '{text}': give a step, last or all")
    return int(text)


def _settings(overrides: Sequence[str], **given: Any) -> dict[str, Any]:
    """Return what was passed, and nothing else; flags win over --set."""
    from cupel.config import apply_overrides, merge

    asked = {k: v for k, v in given.items() if v is not None and k != "pass_at"}
    if given["pass_at"] is not None:
        asked["pass_at"] = _numbers(given["pass_at"])
    return merge(apply_overrides({}, overrides), {"evaluation": asked} if asked else {})


def _numbers(text: str) -> list[int]:
    parts = comma_list(text, flag="--pass-at")
    for part in parts:
        if not part.isascii() or not part.isdigit():
            raise Stop(f"--pass-at: '{part}' is no k; give whole numbers, e.g. 1,8")
    return [int(part) for part in parts]


def _plan(target: Target, asked: Mapping[str, Any], seed: int | None) -> RunSpec:
    from cupel.lab.plan import plan_run
    from cupel.lab.registry import load_recipe

    own = target.seed if target.seed is not None else MODEL_SEED
    return plan_run(
        load_recipe(RECIPE_NAME),
        RECIPE_NAME,
        passed=target.passed(asked),
        seed=own if seed is None else seed,
        condition="evaluate",
        where=target.name,
    )


def _refuse_other_problems(plans: Sequence[RunSpec]) -> None:
    """Compare what both would be asked before anything is sampled."""
    from cupel.config import validate
    from cupel.rlvr.evaluation_config import EvaluateConfig
    from cupel.rlvr.evaluation_rates import refuse_other_problems
    from cupel.rlvr.problems import load_problems

    lists = []
    for spec in plans:
        config = validate(EvaluateConfig, spec.resolved, where="evaluate")
        problems = load_problems(config.problems).held_out(config.evaluation.problems)
        lists.append([problem.id for problem in problems])
    refuse_other_problems(*lists)


def _execute(
    target: Target, spec: RunSpec, out_dir: Path | None, *, device: str, threads: int
) -> tuple[Path, Evaluated]:
    """Run what is missing of one evaluation, and read it back."""
    from cupel.config import validate
    from cupel.lab.recipe import Slot
    from cupel.lab.run_dir import RunFolder
    from cupel.lab.store import read_run
    from cupel.report.evaluation_tables import Evaluated
    from cupel.rlvr.evaluation_config import EvaluateConfig, changes
    from cupel.rlvr.evaluation_recipe import read_scores

    config = validate(EvaluateConfig, spec.resolved, where=target.name)
    notes = [target.note] if target.note else []
    if target.training is not None:
        notes += [f"changed: {text}" for text in changes(config, target.training.config)]
        if spec.seed != target.seed:
            notes.append(f"changed: seed = {spec.seed} (the run: {target.seed})")
    for note in notes:
        console.note(f"{target.name}: {note}")
    folder = (out_dir or target.home) / f"{target.label}_{spec.id.replace('-', '_')}"
    run = RunFolder(folder)
    run.create(spec)
    if not run.is_complete:
        execute_one(folder, Slot(device=device, threads=threads))
    values = (read_run(folder).result or {})["values"]
    settings = config.evaluation
    return folder, Evaluated(
        name=target.name,
        step=values["step"],
        seed=spec.seed,
        scores=read_scores(folder),
        pass_at=settings.pass_at if settings.samples > 1 else (),
    )
