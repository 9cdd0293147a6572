"""Small toy studies for the tests of planning and execution."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cupel.lab import Condition, RunFolder, StudyConfig, load_recipe, plan_study, write_plan

RECIPE_NAME = "lab_toy_recipe:RECIPE"


def toy_study(*, seeds: tuple[int, ...] = (1, 2), **config: Any) -> StudyConfig:
    """Two conditions that differ in drift."""
    return StudyConfig(
        name="toy",
        question="does drift matter?",
        recipe=RECIPE_NAME,
        seeds=list(seeds),
        config=config,
        conditions=[
            Condition(label="still"),
            Condition(label="drifting", config={"drift": 0.2}),
        ],
    )


def planned(folder: Path, study: StudyConfig) -> Path:
    """Write the study's plan and return its folder."""
    write_plan(plan_study(study, load_recipe(study.recipe)), folder)
    return folder


def run_folders(folder: Path) -> list[RunFolder]:
    """Return the run folders of a study."""
    return [RunFolder(path) for path in sorted((folder / "runs").iterdir())]


def wait_until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for something, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
