"""Tasks, settings and runs of a training that takes a second, for several test files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cupel.arc.checkpoints import WEIGHTS
from cupel.arc.trained import open_trained
from cupel.lab import read_run
from cupel.lab.plan import plan_run
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.worker import execute_run

SIDE = 4
Settings = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of recolouring tasks; which colour becomes which, only demonstrations say."""
    rng = np.random.default_rng(0)
    folders = []
    for half, count in (("training", 4), ("evaluation", 3)):
        folder = tmp_path_factory.mktemp(half)
        for number in range(count):
            table = np.concatenate([[0], rng.permutation(9) + 1])

            def pair(table: np.ndarray = table) -> dict[str, Any]:
                grid = rng.integers(0, 10, (2, 3))
                return {"input": grid.tolist(), "output": table[grid].tolist()}

            task = {"train": [pair() for _ in range(3)], "test": [pair()]}
            (folder / f"{half}{number}.json").write_text(json.dumps(task))
        folders.append(folder)
    return folders[0], folders[1]


@pytest.fixture
def settings(tasks: tuple[Path, Path]) -> Settings:
    """Return `settings(**changes)` of a run that takes a second."""

    def make(**changes: Any) -> dict[str, Any]:
        base = {
            "source": {"train": [f"folder:{tasks[0]}"], "evaluation": [f"folder:{tasks[1]}"]},
            "items": {"sides": [SIDE]},
            "max_side": SIDE,
            "hidden_size": 16,
            "num_heads": 2,
            "L_layers": 1,
            "H_cycles": 2,
            "L_cycles": 1,
            "n_context": 2,
            "encoder": {"kind": "standard", "num_layers": 1},
            "halt_max_steps": 3,
            "global_batch_size": 4,
            "max_steps": 12,
            "lr": 1e-3,
            "lr_warmup_steps": 2,
            "log_every": 5,
            "eval_every": 6,
            "save_every": 4,
            "ema_rate": 0.5,
        }
        return {**base, **changes}

    return make


def plan(folder: Path, passed: dict[str, Any], seed: int = 0) -> RunFolder:
    recipe = load_recipe("arc.train")
    run = RunFolder(folder)
    run.create(plan_run(recipe, "arc.train", passed=passed, seed=seed))
    return run


def run(folder: Path, passed: dict[str, Any], seed: int = 0) -> RunFolder:
    planned = plan(folder, passed, seed)
    execute_run(folder, fsync=False)
    return planned


def finished(folder: Path, passed: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Run and return the result's values."""
    state = run(folder, passed, seed).state()
    assert state["status"] == "done", state["failure"]
    result = read_run(folder).result
    assert result is not None
    return dict(result["values"])


def weights(folder: Path, which: str = "raw") -> dict[str, torch.Tensor]:
    trained = open_trained(folder)
    found: dict[str, torch.Tensor] = torch.load(trained.folder / WEIGHTS)[which]
    return found
