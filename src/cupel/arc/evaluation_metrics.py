"""What an evaluation reports: declared names, and how each follows from the rows on disk.

Pure. Knows the names of the ETRM project (`all.*`, `ARC/pass@k`) and, beside them, those that can
be trusted: official scoring, exact match at halt, n and interval of every rate. Refuses to average
what was not measured: a value without a label is missing, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cupel.arc.voting import PASS_AT, Rate, Score, rate
from cupel.lab.metrics import Metric, Scalar

RATES: Mapping[str, tuple[str, str]] = {
    "all.accuracy": ("accuracy", "Share of labelled cells right, mean over predictions, no vote."),
    "all.exact_accuracy": ("exact", "Predictions with every labelled cell right, no vote."),
    "all.q_halt_accuracy": ("halt_right", "Predictions that the halting head judged rightly."),
    "em_at_halt": ("exact_at_halt", "Exact match at the first step that would halt, or the last."),
    "grid_accuracy": ("correct", "Predictions whose cropped grid is the true one: what votes."),
}
"""Rates over predictions: column of predictions.jsonl, and meaning."""

MEANS: Mapping[str, tuple[str, str, str]] = {
    "all.lm_loss": ("lm_loss", "Mean negative log-likelihood of the labelled cells.", "nats"),
    "all.q_halt_loss": ("q_halt_loss", "Mean cross-entropy of the halting head.", "nats"),
    "all.steps": ("steps", "Mean steps taken; halt_max_steps without early exit.", "count"),
}
"""Plain means over predictions: column, meaning, unit."""

_CLUSTERED = (
    " The interval counts puzzles, not predictions: augmentations of one puzzle are not independent"
)


def _rate_metrics(name: str, meaning: str) -> list[Metric]:
    return [
        Metric(name=name, meaning=meaning, unit="rate", higher_is_better=True),
        Metric(name=f"{name}_lo", meaning=f"Lower 95 % Wilson limit of {name}.", unit="rate"),
        Metric(name=f"{name}_hi", meaning=f"Upper 95 % Wilson limit of {name}.", unit="rate"),
        Metric(name=f"{name}_n", meaning=f"Puzzles that {name} is about.", unit="count"),
    ]


def _evaluations() -> tuple[Metric, ...]:
    declared = [
        Metric(name="step", meaning="Updates the evaluated weights had.", unit="count"),
        Metric(name="condition", meaning="Condition of the run.", unit="text"),
        Metric(name="seed", meaning="Seed of the evaluation.", unit="count"),
        Metric(name="view", meaning="heldout or train_probe.", unit="text"),
        Metric(name="weights", meaning="ema or raw.", unit="text"),
        Metric(
            name="contamination",
            meaning="clean: nothing of these puzzles was trained on; contaminated; unknown: a "
            "decoder was loaded whose training puzzles are not known.",
            unit="text",
        ),
        Metric(name="puzzles", meaning="Puzzles evaluated.", unit="count"),
        Metric(name="inputs", meaning="Test inputs evaluated.", unit="count"),
        Metric(name="augmentations", meaning="Largest number of variants a puzzle.", unit="count"),
        Metric(name="predictions", meaning="Predictions, one vote each.", unit="count"),
        Metric(name="empty", meaning="Predictions without a cell; no candidates.", unit="count"),
        Metric(name="placeholders", meaning="Test inputs without any answer.", unit="count"),
    ]
    for name, (_, meaning) in RATES.items():
        declared += _rate_metrics(name, meaning + _CLUSTERED + ".")
    for name, (_, meaning, unit) in MEANS.items():
        declared.append(Metric(name=name, meaning=meaning, unit=unit))
    declared += [
        Metric(
            name="steps_at_halt", meaning="Mean first step that would halt, or last.", unit="count"
        ),
        Metric(
            name="forced_rate", meaning="Predictions that never would have halted.", unit="rate"
        ),
    ]
    for k in PASS_AT:
        meaning = f"Mean over puzzles of the share of test inputs solved within {k} answers."
        declared += _rate_metrics(f"ARC/pass@{k}", meaning)
    for k in PASS_AT:
        meaning = f"Share of puzzles with all test inputs solved within {k} answers."
        declared += _rate_metrics(f"ARC/official@{k}", meaning)
    return tuple(declared)


METRICS: tuple[Metric, ...] = (
    Metric(name="step", meaning="Number of the puzzle, from 0.", unit="count"),
    Metric(name="condition", meaning="Condition of the run.", unit="text"),
    Metric(name="seed", meaning="Seed of the evaluation.", unit="count"),
    Metric(name="puzzle", meaning="Id of the puzzle.", unit="text"),
    Metric(name="side", meaning="Side of its canvas.", unit="cells"),
    Metric(name="inputs", meaning="Its test inputs.", unit="count"),
    Metric(name="predictions", meaning="Predictions, one vote each.", unit="count"),
    Metric(
        name="exact_accuracy",
        meaning="Predictions with every labelled cell right.",
        unit="rate",
        higher_is_better=True,
    ),
    Metric(
        name="solved@1", meaning="Test inputs solved at once.", unit="rate", higher_is_better=True
    ),
    Metric(
        name="solved@2",
        meaning="Test inputs solved within two answers.",
        unit="rate",
        higher_is_better=True,
    ),
    Metric(
        name="batch_time_s",
        meaning="Seconds of the batch it was answered in.",
        unit="s",
        reproducible=False,
    ),
)
"""metrics.jsonl of an evaluation: one row a puzzle."""

EVALUATIONS: tuple[Metric, ...] = _evaluations()
"""evaluations.jsonl of an evaluation: its one row."""


def prediction_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, Scalar]:
    """Return the values that need no vote, from the rows of predictions.jsonl.

    Rows without a label count in no rate. A rate's interval is Wilson's for as many trials as there
    are puzzles, which is right however strongly the predictions of a puzzle depend on one another.
    """
    values: dict[str, Scalar] = {"predictions": len(rows)}
    for name, (column, _) in RATES.items():
        known = [row for row in rows if row[column] is not None]
        mean = _mean(row[column] for row in known)
        puzzles = len({row["puzzle"] for row in known})
        values |= rate_values(name, None if mean is None else rate(mean * puzzles, puzzles))
    for name, (column, _, _) in MEANS.items():
        values[name] = _mean(row[column] for row in rows if row[column] is not None)
    halts = [row["halted_at"] for row in rows]
    values["steps_at_halt"] = _mean(
        row["steps"] if row["halted_at"] is None else row["halted_at"] for row in rows
    )
    values["forced_rate"] = halts.count(None) / len(halts) if halts else None
    return values


def score_values(score: Score | None) -> dict[str, Scalar]:
    """Return pass@k under both rules; missing where the answers are not known."""
    values: dict[str, Scalar] = {}
    for k in PASS_AT:
        values |= rate_values(f"ARC/pass@{k}", score.partial[k] if score is not None else None)
        values |= rate_values(f"ARC/official@{k}", score.official[k] if score is not None else None)
    return values


def rate_values(name: str, given: Rate | None) -> dict[str, Scalar]:
    """Return a rate with its limits and n under its name."""
    if given is None:
        return {name: None, f"{name}_lo": None, f"{name}_hi": None, f"{name}_n": 0}
    return {
        name: given.value,
        f"{name}_lo": given.low,
        f"{name}_hi": given.high,
        f"{name}_n": given.n,
    }


def _mean(values: Iterable[float | bool]) -> float | None:
    numbers = [float(value) for value in values]
    return math.fsum(numbers) / len(numbers) if numbers else None
