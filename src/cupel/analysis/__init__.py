"""From run folders to answers: endpoints, comparisons, verdicts. Reads; only `judge` writes."""

from cupel.analysis.align import Curves, align_curves
from cupel.analysis.compare import compare_runs
from cupel.analysis.endpoint import Outcome, outcomes, read_series
from cupel.analysis.judge import Judgement, judge
from cupel.analysis.litmus import evaluate_litmus
from cupel.analysis.markdown import comparison_markdown, litmus_markdown, significance_markdown
from cupel.analysis.probes import SweepReading, read_sweep
from cupel.analysis.significance import evaluate_significance
from cupel.analysis.sweep import Choice, Probe, choose

__all__ = [
    "Choice",
    "Curves",
    "Judgement",
    "Outcome",
    "Probe",
    "SweepReading",
    "align_curves",
    "choose",
    "compare_runs",
    "comparison_markdown",
    "evaluate_litmus",
    "evaluate_significance",
    "judge",
    "litmus_markdown",
    "outcomes",
    "read_series",
    "read_sweep",
    "significance_markdown",
]
