"""Cupel: a laboratory for training experiments.

The names below load on first use, so that `import cupel` costs nothing:

    import cupel

    report = cupel.evaluate_significance(
        baseline_run_dirs=["logs/a/runs/grpo+none_s42", ...],
        candidate_run_dirs=["logs/a/runs/maxrl+none_s42", ...],
    )
    print(cupel.significance_markdown(report))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "compare_runs": "cupel.analysis",
    "comparison_markdown": "cupel.analysis",
    "evaluate_litmus": "cupel.analysis",
    "evaluate_significance": "cupel.analysis",
    "judge": "cupel.analysis",
    "litmus_markdown": "cupel.analysis",
    "significance_markdown": "cupel.analysis",
    "execute_study": "cupel.lab",
    "load_recipe": "cupel.lab",
    "plan_study": "cupel.lab",
    "read_run": "cupel.lab",
    "read_study": "cupel.lab",
    "write_plan": "cupel.lab",
    "StudyConfig": "cupel.lab.study",
    "write_figures": "cupel.report",
    "write_report": "cupel.report",
    "CupelError": "cupel.errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cupel' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
