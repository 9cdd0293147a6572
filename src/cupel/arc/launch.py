"""Training in several processes: `python -m torch.distributed.run -m cupel.arc.train key=value`.

Knows how processes find each other and that only the first one owns the run folder. Refuses to
know the algorithm: every process runs the same loop, which asks its `Ranks` where they differ.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cupel.arc.config import ArcTrainConfig
from cupel.arc.presets import preset
from cupel.arc.ranks import Ranks, current_ranks
from cupel.config import apply_overrides, validate
from cupel.errors import ConfigError, CupelError
from cupel.lab.checkpoint import Checkpoints
from cupel.lab.plan import plan_run
from cupel.lab.randomness import Randomness
from cupel.lab.recipe import RunContext, Slot
from cupel.lab.recorder import Recorder
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.worker import execute_run

RECIPE_NAME = "arc.train"
_OWN = ("run_folder", "preset", "seed", "device", "threads")


def main(words: Sequence[str] | None = None) -> None:
    """Train with `key=value` words, and leave with 0 only when the run is complete.

    Besides settings: `run_folder` (required), `preset`, `seed`, `device` (cpu, cuda), `threads`.
    """
    try:
        given = apply_overrides({}, sys.argv[1:] if words is None else words)
        own = {name: given.pop(name) for name in _OWN if name in given}
        if "run_folder" not in own:
            raise ConfigError("run_folder is missing; say where to write: run_folder=logs/arc/one")
        base = preset(str(own["preset"])) if "preset" in own else {}
        settings = apply_overrides(base, sys.argv[1:] if words is None else words)
        status = launch(
            {key: value for key, value in settings.items() if key not in _OWN},
            folder=Path(str(own["run_folder"])),
            seed=int(own.get("seed", 0)),
            device=str(own.get("device", "cpu")),
            threads=int(own.get("threads", 1)),
        )
    except CupelError as error:
        sys.exit(str(error))
    sys.exit(0 if status == "done" else 3)


def launch(
    settings: Mapping[str, Any], *, folder: Path, seed: int, device: str = "cpu", threads: int = 1
) -> str:
    """Run, continue or skip the training in `folder` as one process of however many there are.

    Returns:
        `done` or `failed`, the same in every process.

    Raises:
        UsageError: bad settings, or a folder that holds another run.
    """
    with _group(device) as own_device:
        slot = Slot(device=own_device, threads=threads)
        ranks = current_ranks()
        if not ranks.is_first:
            return _follow(slot, ranks)
        run = RunFolder(folder)
        spec = plan_run(load_recipe(RECIPE_NAME), RECIPE_NAME, passed=settings, seed=seed)
        run.create(spec)
        todo = None if run.is_complete else {"resolved": spec.resolved, "seed": seed}
        ranks.share(todo)
        return execute_run(folder, slot)


def _follow(slot: Slot, ranks: Ranks) -> str:
    """Train beside the first process; what this one writes is its own and thrown away."""
    from cupel.arc.train import train

    work = ranks.share(None)
    if work is None:
        return "done"
    config = validate(ArcTrainConfig, work["resolved"], where="the first process's settings")
    with tempfile.TemporaryDirectory() as scratch, Recorder(Path(scratch), {}) as recorder:
        context = RunContext(
            folder=Path(scratch),
            condition="run",
            seed=work["seed"],
            randomness=Randomness(work["seed"]),
            recorder=recorder,
            checkpoints=Checkpoints(Path(scratch) / "checkpoints"),
            resume=None,
            slot=slot,
        )
        train(config, context, ranks)
    return "done"


@contextmanager
def _group(device: str) -> Iterator[str]:
    """Join the processes that the launcher started, if any, and yield this one's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    own = device
    if device == "cuda":
        own = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield own
    finally:
        dist.destroy_process_group()
