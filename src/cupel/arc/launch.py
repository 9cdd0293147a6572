"""Training in several processes: `python -m torch.distributed.run -m cupel.arc.train key=value`.

Knows the words of that command, and that the first process plans the run. Refuses to know the
algorithm: every process runs the same loop, which asks its `Ranks` where they differ.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cupel.arc.presets import preset
from cupel.config import apply_overrides
from cupel.errors import ConfigError, CupelError
from cupel.lab.plan import plan_run
from cupel.lab.ranks import ALONE
from cupel.lab.recipe import Slot
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.together import run_together
from cupel.policy.ranks import current_ranks, joined

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
        `done` or `failed`.

    Raises:
        UsageError: bad settings, or a folder that holds another run.
    """
    with joined(device) as own_device:
        ranks = current_ranks() or ALONE
        if ranks.is_first:
            spec = plan_run(load_recipe(RECIPE_NAME), RECIPE_NAME, passed=settings, seed=seed)
            RunFolder(folder).create(spec)
        return run_together(folder, Slot(device=own_device, threads=threads), ranks)
