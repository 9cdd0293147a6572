"""Does the order hold? Neighbours of the expected order, seed by seed, on every outcome.

Knows the outcomes of runs. Refuses to read an order out of means alone: each step has its paired
interval, and a step that is not resolved is called unresolved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from cupel.lab.files import write_atomically, write_json
from cupel.lab.randomness import Randomness
from cupel.lab.store import RunRecord, StudyRecord
from cupel.stats.multiplicity import holm
from cupel.stats.permutation import sign_flip
from cupel.teach.selection.results import config_of
from cupel.teach.selection.study import BASE, ORDER, OUTCOMES


def write_order(record: StudyRecord) -> dict[str, Any]:
    """Write selection_order.json and .md, and return what they hold."""
    told = order_table(record)
    write_json(record.folder / "selection_order.json", told)
    write_atomically(record.folder / "selection_order.md", order_markdown(told).encode())
    return told


def order_table(record: StudyRecord) -> dict[str, Any]:
    """Compare neighbours of BASE, random, entropy, predictor, oracle on every outcome.

    Differences pair runs of one seed. The interval inverts the exact sign-flip test at 95 %; p is
    corrected by Holm over the steps of one budget and outcome. `order` is `holds` when every
    step's interval is above 0, `reversed` when one step is below 0 after correction, else
    `unresolved`; `not measured` when a step has no runs.
    """
    rows = []
    holds: dict[str, dict[str, str]] = {}
    for budget, labels in _chains(record).items():
        for outcome in OUTCOMES:
            steps = _steps(record, labels, outcome)
            rows += [{"budget_k": budget, "outcome": outcome} | step for step in steps]
            told = [step for step in steps if step["baseline"] != BASE]
            holds.setdefault(str(budget), {})[outcome] = _verdict(told)
    return {
        "question": "ORACLE >= PREDICTOR >= ENTROPY >= RANDOM?",
        "endpoint": record.study.endpoint.metric,
        "note": "each row: candidate - baseline, paired by seed; the declared contrasts are judged "
        "in analysis/significance.json",
        "order": holds,
        "steps": rows,
    }


def order_markdown(told: Mapping[str, Any]) -> str:
    """Return the table as Markdown."""
    lines = [
        "# Order of the selections",
        "",
        str(told["question"]),
        "",
        "| K | outcome | step | seeds | baseline | candidate | difference | 95 % | p (Holm) | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in told["steps"]:
        ends = row["interval"]
        interval = "" if ends is None else f"[{_shown(ends[0])}, {_shown(ends[1])}]"
        lines.append(
            f"| {row['budget_k']} | {row['outcome']} | {row['baseline']} → {row['candidate']} | "
            f"{row['n_seeds']} | {_shown(row['baseline_mean'])} | {_shown(row['candidate_mean'])} "
            f"| {_shown(row['difference'])} | {interval} | {_shown(row['p_holm'])} | "
            f"{row['resolved']} |"
        )
    lines += ["", "Order by outcome:", ""]
    for budget, by_outcome in told["order"].items():
        lines += [f"- K = {budget}, {name}: {word}" for name, word in by_outcome.items()]
    return "\n".join(lines) + "\n"


def _chains(record: StudyRecord) -> dict[int, list[str]]:
    """Return the labels to compare by budget, in the expected order, BASE first."""
    found: dict[int, dict[str, str]] = {}
    base = [label for label in record.study.labels if label == BASE]
    for condition in record.study.conditions:
        run = next(run for run in record.runs if run.condition == condition.label)
        rule = config_of(run).selection
        if rule.rule in ORDER and rule.budget is not None:
            found.setdefault(rule.budget, {})[rule.rule] = condition.label
    return {
        budget: base + [by_rule[method] for method in ORDER if method in by_rule]
        for budget, by_rule in sorted(found.items())
    }


def _steps(record: StudyRecord, labels: Sequence[str], outcome: str) -> list[dict[str, Any]]:
    ends = {label: _ends(record, label, outcome) for label in labels}
    steps = []
    for baseline, candidate in pairwise(labels):
        seeds = [seed for seed in ends[baseline] if seed in ends[candidate]]
        steps.append(_step(baseline, candidate, ends, seeds))
    p_values = [step["p"] for step in steps if step["p"] is not None]
    adjusted = iter(holm(p_values).tolist() if p_values else [])
    return [step | {"p_holm": None if step["p"] is None else next(adjusted)} for step in steps]


def _step(
    baseline: str, candidate: str, ends: Mapping[str, Mapping[int, float]], seeds: Sequence[int]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "baseline": baseline,
        "candidate": candidate,
        "n_seeds": len(seeds),
        "n_missing": len(set(ends[baseline]) ^ set(ends[candidate])),
        "baseline_mean": _mean([ends[baseline][seed] for seed in seeds]),
        "candidate_mean": _mean([ends[candidate][seed] for seed in seeds]),
        "difference": None,
        "interval": None,
        "p": None,
        "resolved": "no runs",
    }
    if not seeds:
        return row
    differences = [ends[candidate][seed] - ends[baseline][seed] for seed in seeds]
    test = sign_flip(differences, rng=Randomness(0).generator("selection_order"))
    low, high = test.interval.low, test.interval.high
    word = "up" if low > 0 else "down" if high < 0 else "unresolved"
    return row | {
        "difference": test.mean,
        "interval": [_end(low), _end(high)],
        "p": test.p,
        "resolved": word,
    }


def _verdict(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return what the steps say together.

    That all of them go up needs no correction, since each must; that one goes down does.
    Source: Berger 1982 (intersection-union tests).
    """
    words = [step["resolved"] for step in steps]
    if not words or "no runs" in words:
        return "not measured"
    if all(word == "up" for word in words):
        return "holds"
    down = [step for step in steps if step["resolved"] == "down" and step["p_holm"] < 0.05]
    return "reversed" if down else "unresolved"


def _ends(record: StudyRecord, label: str, outcome: str) -> dict[int, float]:
    """Return the outcome at the end of every complete run of a condition, by seed."""
    found = {}
    for run in record.runs:
        value = _end_value(run, outcome) if run.condition == label else None
        if value is not None and run.seed is not None:
            found[run.seed] = value
    return found


def _end_value(run: RunRecord, outcome: str) -> float | None:
    value = (run.result or {}).get("values", {}).get(f"{outcome}_end")
    return None if value is None else float(value)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _end(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
