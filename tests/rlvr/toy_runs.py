"""Runs of `rlvr.train` on the toy policy, in this process: planned, executed, read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.config import validate
from cupel.lab import (
    Recorder,
    RunContext,
    RunFolder,
    comparable_bytes,
    execute_run,
    load_recipe,
    plan_run,
    read_jsonl,
)
from cupel.lab.checkpoint import Checkpoints
from cupel.lab.files import read_json
from cupel.lab.randomness import Randomness
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from cupel.rlvr.metrics import EVALUATIONS, METRICS

SMALL = {"backend": "toy", "max_steps": 4, "save_every": 0, "evaluation": {"samples": 2}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run folder after execution."""

    folder: Path

    @property
    def steps(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "metrics.jsonl")

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "evaluations.jsonl")

    @property
    def generations(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "emergence/generations.jsonl")

    @property
    def emergence(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "emergence/steps.jsonl")

    @property
    def state(self) -> dict[str, Any]:
        return RunFolder(self.folder).state()

    @property
    def result(self) -> dict[str, Any]:
        values: dict[str, Any] = read_json(self.folder / "result.json")["values"]
        return values

    @property
    def record(self) -> dict[str, bytes]:
        return comparable_bytes(self.folder)


def toy_run(folder: Path, *, seed: int = 1, recipe: str = "rlvr.train", **settings: Any) -> Ran:
    """Plan and execute one run; it may end in any status."""
    passed = {**SMALL, **settings}
    spec = plan_run(load_recipe(recipe), recipe, passed=passed, seed=seed, condition="toy")
    RunFolder(folder).create(spec)
    execute_run(folder, fsync=False)
    return Ran(folder=folder)


def toy_config(**settings: Any) -> TrainConfig:
    """Return a resolved config of the toy backend."""
    return validate(TrainConfig, with_backend_defaults({**SMALL, **settings}), where="here")


def toy_context(folder: Path, *, seed: int = 1) -> RunContext:
    """Return a context outside of any run, with rows and checkpoints in `folder`."""
    streams = {
        "metrics.jsonl": METRICS,
        "evaluations.jsonl": EVALUATIONS,
        "emergence/steps.jsonl": None,
        "emergence/generations.jsonl": None,
        "emergence/tokens.jsonl": None,
    }
    return RunContext(
        folder=folder,
        condition="toy",
        seed=seed,
        randomness=Randomness(seed),
        recorder=Recorder(folder, streams),
        checkpoints=Checkpoints(folder / "checkpoints", fsync=False),
        resume=None,
    )
