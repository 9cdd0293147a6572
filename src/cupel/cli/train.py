"""`cupel train`: one run, by flags or by a file of settings."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import Interrupted, Stop
from cupel.cli.execution import reach
from cupel.cli.followers import TrackerWish, following, wandb_options
from cupel.cli.progress import Board, FolderWatch, run_state
from cupel.cli.rlvr_flags import shared_settings, train_flags
from cupel.cli.source import json_option, set_setting_option
from cupel.errors import RunError, UsageError

RECIPE_NAME = "rlvr.train"


@click.command()
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path),
    default=Path("logs/train"),
    show_default=True,
    help="Run folder.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=42,
    show_default=True,
    help="Seed of everything random in the run.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file of settings; flags win over it.",
)
@click.option("--resume", is_flag=True, help="Continue what is in --log-dir.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU threads of this run.",
)
@click.option("--wandb-run-name", help="Name of the run in W&B [default: the run folder's].")
@wandb_options
@set_setting_option
@json_option
@train_flags()
@click.pass_context
def command(
    ctx: click.Context,
    /,
    log_dir: Path,
    seed: int,
    config_file: Path | None,
    resume: bool,
    device: str,
    threads: int,
    overrides: tuple[str, ...],
    tracker: TrackerWish,
    wandb_run_name: str | None,
    as_json: bool,
) -> None:
    """Train one run. Every setting is a flag; what is not passed takes the backend's default.

    \b
    Examples:
      cupel train --max-steps 20 --batch-size 4 --group-size 4 --seed 42
      cupel train --backend toy --log-dir logs/toy
      cupel train --backend torch --model Qwen/Qwen3-0.6B --config settings.toml
      cupel train --backend tinker --algorithm grpo --lr 5e-4 --log-dir results/ab/baseline
      cupel train --resume --log-dir logs/toy
      cupel train --max-steps 20 --wandb-project mine
    """
    from cupel.lab.recipe import Slot
    from cupel.lab.study import Follow

    if wandb_run_name is not None and not tracker:
        raise Stop("--wandb-run-name goes with --wandb-project NAME")
    settings = shared_settings(ctx, config_file, overrides)
    if resume and not settings:
        _find_run(log_dir)
    else:
        _prepare_run(log_dir, seed, settings, resume=resume, where=str(config_file or "flags"))
    wish = Follow(**tracker.get("follow", {}))
    with following(log_dir, wish, name=log_dir.name, run_name=wandb_run_name):
        execute_one(log_dir, Slot(device=device, threads=threads))
    show_result(log_dir, as_json=as_json)


def execute_one(folder: Path, slot: object = None) -> None:
    """Run or continue one run folder under a progress bar.

    Raises:
        RunError: the run failed.
        UsageError: it failed because of what it was given.
        Interrupted: Ctrl-C, with the command that continues.
    """
    from cupel.lab.recipe import Slot
    from cupel.lab.run_dir import RunFolder
    from cupel.lab.worker import execute_run

    assert slot is None or isinstance(slot, Slot)
    reach(folder)
    try:
        with FolderWatch(Board([run_state(folder)]), {folder.name: folder}):
            status = execute_run(folder, slot)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; continue with: cupel resume {shlex.quote(str(folder))}"
        ) from None
    if status == "failed":
        failure = RunFolder(folder).state()["failure"]
        if failure["kind"] == "usage":
            raise UsageError(failure["message"])
        raise RunError(f"{folder}: the run failed ({failure['kind']}): {failure['message']}")


def show_result(folder: Path, *, as_json: bool) -> None:
    """Print the result of a complete run."""
    from cupel.lab.store import read_run

    run = read_run(folder)
    values = (run.result or {}).get("values", {})
    if as_json:
        console.print_json(
            {"folder": str(folder), "condition": run.condition, "seed": run.seed, "values": values}
        )
        return
    console.table(["result", "value"], list(values.items()))
    console.line(f"run folder: {folder}")


def _find_run(folder: Path) -> None:
    from cupel.lab.store import read_run

    read_run(folder)
    if not (folder / "config.json").is_file():
        raise Stop(f"{folder}: no config.json; this run was not made by Cupel and cannot continue")


def _prepare_run(
    folder: Path, seed: int, settings: dict[str, object], *, resume: bool, where: str
) -> None:
    from cupel.lab.plan import plan_run
    from cupel.lab.registry import load_recipe
    from cupel.lab.run_dir import RunFolder

    if folder.exists() and not folder.is_dir():
        raise Stop(f"{folder} is a file; --log-dir wants a folder")
    begun = folder.is_dir() and any(folder.iterdir()) and not _is_untouched(folder)
    if begun and not resume:
        raise Stop(
            f"{folder} is not empty; --resume continues what is there, "
            "another --log-dir starts a new run"
        )
    recipe = load_recipe(RECIPE_NAME)
    label = _label(settings, where)
    spec = plan_run(recipe, RECIPE_NAME, passed=settings, seed=seed, condition=label, where=where)
    RunFolder(folder).create(spec)


def _is_untouched(folder: Path) -> bool:
    """Say whether a folder holds a run that was planned and never began: it may be planned anew."""
    from cupel.lab.run_dir import RunFolder

    run = RunFolder(folder)
    return (folder / "run.json").is_file() and run.state().get("attempts") == 0


def _label(settings: dict[str, object], where: str) -> str:
    """Return the condition label that these settings amount to, e.g. `maxrl+gtpo_sepa`."""
    from cupel.config import validate
    from cupel.rlvr.config import TrainConfig, with_backend_defaults

    return validate(TrainConfig, with_backend_defaults(settings), where=where).label
