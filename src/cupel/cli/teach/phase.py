"""Running one phase of the pipeline: a run folder like any other, and its files where asked.

Knows that a phase is a recipe, that a complete phase is not run twice, and that a phase stopped
midway continues. Refuses to know what a phase does.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupel.cli import console
from cupel.cli.train import execute_one

if TYPE_CHECKING:
    from cupel.lab.run_dir import RunFolder


def run_phase(
    recipe: str,
    settings: Mapping[str, Any],
    *,
    folder: Path,
    seed: int,
    device: str = "cpu",
    threads: int = 1,
    exports: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Run a recipe in `folder`, or continue or skip what is there; return its result values.

    Args:
        settings: what was passed; nothing that is a default.
        exports: copies of files of the run folder, by name in it, e.g.
            `{"rollouts.json": Path("results/phase0/rollouts.json")}`.

    Raises:
        UsageError: the folder holds the outcome of other settings, or the input was bad.
        RunError: the run failed.
    """
    from cupel.lab.plan import plan_run
    from cupel.lab.recipe import Slot
    from cupel.lab.registry import load_recipe
    from cupel.lab.run_dir import RunFolder
    from cupel.lab.store import read_run

    condition = recipe.rpartition(".")[2]
    spec = plan_run(
        load_recipe(recipe), recipe, passed=settings, seed=seed, condition=condition, where="flags"
    )
    run = RunFolder(folder)
    _clear_refused(run, spec.id)
    run.create(spec)
    if not run.is_complete:
        execute_one(folder, Slot(device=device, threads=threads))
    for name, target in (exports or {}).items():
        _copy(folder / name, target)
    return dict((read_run(folder).result or {}).get("values", {}))


def _clear_refused(run: RunFolder, wanted: str) -> None:
    """Make way for corrected settings where an attempt stopped on what it was given.

    Rows and checkpoints of the refused settings go; caches and whatever else lies there stay, so
    that a paid answer is never paid twice.
    """
    described = (run.path / "config.json").is_file() and (run.path / "run.json").is_file()
    if not described or run.is_complete or run.config()["id"] == wanted:
        return
    failure = run.state().get("failure") or {}
    if failure.get("kind") != "usage":
        return
    console.note(f"{run.path}: begun again, because it had stopped on: {failure['message']}")
    shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
    for name in ("config.json", "run.json"):
        (run.path / name).unlink()
    for stream in run.path.rglob("*.jsonl"):
        stream.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
