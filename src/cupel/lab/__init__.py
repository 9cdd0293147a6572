"""The laboratory: plans studies, runs them, records what happened, and reads it back.

Names are imported when first used, so that `import cupel.lab` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupel.lab.checkpoint import Checkpoint, Checkpoints
    from cupel.lab.comparison import comparable_bytes, differing_streams, strip_timing
    from cupel.lab.executors.base import (
        Progress,
        RunOutcome,
        StudyOutcome,
        execute_study,
    )
    from cupel.lab.metrics import Metric, MetricSet
    from cupel.lab.plan import Plan, RunSpec, plan_run, plan_study
    from cupel.lab.randomness import Randomness, counter_of
    from cupel.lab.recipe import Forecast, Recipe, Result, RunContext, Slot
    from cupel.lab.recorder import Recorder
    from cupel.lab.registry import load_recipe, recipe_names
    from cupel.lab.run_dir import RunFolder
    from cupel.lab.store import (
        RunRecord,
        StudyRecord,
        find_runs,
        is_run_folder,
        is_study_folder,
        read_jsonl,
        read_run,
        read_study,
    )
    from cupel.lab.study import Condition, Decision, Endpoint, StudyConfig
    from cupel.lab.study_dir import write_plan
    from cupel.lab.worker import execute_run

_HOME = {
    "checkpoint": ("Checkpoint", "Checkpoints"),
    "comparison": ("comparable_bytes", "differing_streams", "strip_timing"),
    "executors.base": ("Progress", "RunOutcome", "StudyOutcome", "execute_study"),
    "metrics": ("Metric", "MetricSet"),
    "plan": ("Plan", "RunSpec", "plan_run", "plan_study"),
    "randomness": ("Randomness", "counter_of"),
    "recipe": ("Forecast", "Recipe", "Result", "RunContext", "Slot"),
    "recorder": ("Recorder",),
    "registry": ("load_recipe", "recipe_names"),
    "run_dir": ("RunFolder",),
    "store": (
        "RunRecord",
        "StudyRecord",
        "find_runs",
        "is_run_folder",
        "is_study_folder",
        "read_jsonl",
        "read_run",
        "read_study",
    ),
    "study": ("Condition", "Decision", "Endpoint", "StudyConfig"),
    "study_dir": ("write_plan",),
    "worker": ("execute_run",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Condition",
    "Decision",
    "Endpoint",
    "Forecast",
    "Metric",
    "MetricSet",
    "Plan",
    "Progress",
    "Randomness",
    "Recipe",
    "Recorder",
    "Result",
    "RunContext",
    "RunFolder",
    "RunOutcome",
    "RunRecord",
    "RunSpec",
    "Slot",
    "StudyConfig",
    "StudyOutcome",
    "StudyRecord",
    "comparable_bytes",
    "counter_of",
    "differing_streams",
    "execute_run",
    "execute_study",
    "find_runs",
    "is_run_folder",
    "is_study_folder",
    "load_recipe",
    "plan_run",
    "plan_study",
    "read_jsonl",
    "read_run",
    "read_study",
    "recipe_names",
    "strip_timing",
    "write_plan",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'cupel.lab' has no attribute '{name}'")
    return getattr(importlib.import_module(f"cupel.lab.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
