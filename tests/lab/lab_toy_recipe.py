"""A recipe small enough to be killed many times: a random walk that forgets nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from cupel.config import Config
from cupel.errors import GateFailure, InfrastructureFailure, PlanError
from cupel.lab.metrics import Metric
from cupel.lab.recipe import Forecast, Result, RunContext

Trouble = Literal["", "nan", "limit", "gate", "os", "infra", "usage", "bug", "kill", "exit", "tell"]


class ToyConfig(Config):
    """The walk."""

    steps: int = 12
    """Number of steps."""
    drift: float = 0.01
    """Added at every step."""
    every: int = 4
    """Steps between checkpoints; 0 for none."""
    sleep_s: float = 0.0
    """Seconds a step takes."""
    trouble: Trouble = ""
    """What goes wrong."""
    at: int = 5
    """The step at which it goes wrong."""
    seed_in_trouble: int | None = None
    """Only this seed is in trouble; None: every one."""
    once: bool = False
    """Trouble comes only at the first attempt."""


METRICS = [
    Metric(name="step", meaning="step", unit="count"),
    Metric(name="condition", meaning="condition", unit="text"),
    Metric(name="seed", meaning="seed", unit="count"),
    Metric(name="correct_rate", meaning="the walk", unit="rate", limits=(-50.0, 50.0)),
    Metric(name="missing", meaning="never known", unit="rate"),
    Metric(name="step_time_s", meaning="time", unit="s", reproducible=False),
]
EVALUATIONS = [
    Metric(name="step", meaning="step", unit="count"),
    Metric(name="accuracy", meaning="accuracy", unit="rate"),
]


class ToyRecipe:
    """The random walk as a recipe."""

    name = "toy"
    config_type = ToyConfig
    streams: ClassVar = {
        "metrics.jsonl": METRICS,
        "evaluations.jsonl": EVALUATIONS,
        "emergence/generations.jsonl": None,
    }
    preload = ("json",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        return data

    def forecast(self, config: ToyConfig) -> Forecast:
        if config.steps > 10_000:
            raise PlanError(f"{config.steps} steps are too many for a toy; at most 10000")
        return Forecast(
            costs={"steps": config.steps, "completions": 3 * config.steps},
            notes=[f"walks {config.steps} steps"],
            warnings=["no checkpoints"] if config.every == 0 else [],
        )

    def run(self, config: ToyConfig, context: RunContext) -> Result:
        walk, total, first = np.zeros(3), 0.0, 0
        if context.resume is not None:
            walk = np.load(context.resume.folder / "walk.npy")
            first, total = context.resume.step, context.resume.state["total"]
        for step in range(first, config.steps):
            started = time.perf_counter()
            if step == config.at and config.seed_in_trouble in (None, context.seed):
                _trouble(config, context)
            noise = context.randomness.generator("noise", step).normal(size=3)
            walk = 0.9 * walk + config.drift + noise
            total += float(walk.sum())
            self._record(config, context, step, walk, started)
            if config.every and (step + 1) % config.every == 0:
                context.checkpoints.save(step + 1, _saver(walk), {"total": total})
        return Result(values={"total": total, "final": float(walk[0])})

    def _record(
        self, config: ToyConfig, context: RunContext, step: int, walk: Any, started: float
    ) -> None:
        uniforms = context.randomness.uniforms("text", [(step, s) for s in range(3)], 2)
        context.recorder.log_many(
            "emergence/generations.jsonl",
            [
                {"step": step, "sample": s, "completion": "é" * 40, "u": uniforms[s]}
                for s in range(3)
            ],
        )
        if config.sleep_s:
            time.sleep(config.sleep_s)
        if step % 3 == 0:
            context.recorder.log("evaluations.jsonl", {"step": step, "accuracy": walk[1]})
            context.recorder.event("evaluated", step=step)
        context.recorder.log(
            "metrics.jsonl",
            {
                "step": step,
                "condition": context.condition,
                "seed": context.seed,
                "correct_rate": float(walk[0]),
                "missing": None,
                "step_time_s": time.perf_counter() - started,
            },
        )


def _saver(walk: Any) -> Any:
    def save(folder: Path) -> None:
        np.save(folder / "walk.npy", walk)

    return save


def _trouble(config: ToyConfig, context: RunContext) -> None:
    mark = context.folder / "troubled"
    if config.once:
        if mark.exists():
            return
        mark.touch()
    row = {"step": config.at, "condition": context.condition, "seed": context.seed}
    match config.trouble:
        case "nan":
            context.recorder.log("metrics.jsonl", {**row, "correct_rate": float("nan")})
        case "limit":
            context.recorder.log("metrics.jsonl", {**row, "correct_rate": 51.0})
        case "gate":
            raise GateFailure("the gate said no")
        case "os":
            raise OSError(28, "No space left on device")
        case "infra":
            raise InfrastructureFailure("the sampler went away")
        case "usage":
            raise PlanError("the data are not there")
        case "bug":
            raise ZeroDivisionError("a bug")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "tell":
            slot, visible = context.slot, os.environ.get("CUDA_VISIBLE_DEVICES")
            threads = f"{slot.threads} {os.environ.get('OMP_NUM_THREADS')}"
            context.recorder.event(f"{slot.device} {visible} threads {threads}")
            print("told on stdout")
        case "exit":
            print("going down", file=sys.stderr)
            os._exit(9)


RECIPE = ToyRecipe()
