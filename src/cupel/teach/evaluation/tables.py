"""From episode rows to the five tables and the gates; the documented columns first, ours behind.

Pure but for `read_episodes` and `write_csv`. Knows column names and which contrast stands where.
Refuses to average over what an instrument broke, and to give a number without its n.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.lab.files import read_json_lines, write_atomically
from cupel.lab.metrics import Scalar
from cupel.teach.evaluation.judging import Dataset, EpisodeRow, mean_or_none
from cupel.teach.evaluation.transfer import (
    NOTHING,
    Diagonal,
    Paired,
    adjusted,
    diagonal,
    paired,
    rate,
)
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.records import FORMATS

BASE = "BASE"
"""Name of the untrained model in every table."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "overall_task_results.csv": ("model", "n", "success_rate", "mean_reward", "mean_steps"),
    "per_quadrant_results.csv": (
        "model", "quadrant", "n", "success_rate", "mean_reward", "mean_steps",
    ),
    "transfer_matrix.csv": (
        "model", "train_quadrant", "supervision", "eval_quadrant", "success_rate",
        "base_success", "delta_success",
    ),
    "retention_results.csv": (
        "model", "n", "retention_success_rate", "base_retention_success_rate", "retention_drop",
    ),
    "stuckness_results.csv": (
        "model", "dataset", "n", "mean_repeat_rate", "mean_loop_rate", "mean_steps",
    ),
}  # fmt: skip
"""The documented columns of every table, in their order; more follow behind them."""

Row = dict[str, Scalar]


@dataclass(frozen=True)
class Evidence:
    """Episode rows, arranged by model; a value of several training seeds is their mean.

    Attributes:
        rows: of all models, BASE among them.
        retention: names of the tasks that BASE solved in its own, independent pass.
        asked: failure states asked for in each quadrant.
    """

    rows: tuple[EpisodeRow, ...]
    retention: frozenset[str]
    asked: int

    @cached_property
    def models(self) -> list[str]:
        """Names, BASE first, the others in the order of the rows."""
        names = dict.fromkeys(row.model for row in self.rows)
        return [BASE, *(name for name in names if name != BASE)]

    @cached_property
    def task_of(self) -> dict[str, str]:
        """Task of every start."""
        return {row.start: row.task_id for row in self.rows}

    @cached_property
    def quadrant_of(self) -> dict[str, str]:
        """Quadrant of every failure state."""
        return {row.start: row.quadrant for row in self.rows if row.dataset == "snapshots"}

    def of(self, model: str, dataset: Dataset, quadrant: str | None = None) -> list[EpisodeRow]:
        """Return a model's rows that its instruments did not break."""
        return [
            row
            for row in self._by_model.get((model, dataset), ())
            if row.success is not None and quadrant in (None, row.quadrant)
        ]

    def errors(self, model: str, dataset: Dataset, quadrant: str | None = None) -> int:
        """Return how many of a model's rows an instrument broke."""
        rows = self._by_model.get((model, dataset), ())
        return sum(row.success is None and quadrant in (None, row.quadrant) for row in rows)

    @cached_property
    def _by_model(self) -> dict[tuple[str, Dataset], list[EpisodeRow]]:
        found: dict[tuple[str, Dataset], list[EpisodeRow]] = {}
        for row in self.rows:
            found.setdefault((row.model, row.dataset), []).append(row)
        return found


def successes(rows: Iterable[EpisodeRow]) -> dict[str, float]:
    """Return success by start, averaged over training seeds."""
    return _means((row.start, row.success) for row in rows)


def probabilities(rows: Iterable[EpisodeRow]) -> dict[str, float]:
    """Return success probability by start, averaged over training seeds, where it is known."""
    return _means((row.start, row.success_probability) for row in rows)


def overall(evidence: Evidence) -> list[Row]:
    """Return overall_task_results.csv: tasks from their start."""
    base = evidence.of(BASE, "tasks")
    contrasts = {
        name: _against(evidence, evidence.of(name, "tasks"), base) for name in evidence.models[1:]
    }
    corrected = _holm({name: each[0] for name, each in contrasts.items()})
    table = []
    for name in evidence.models:
        rows = evidence.of(name, "tasks")
        row = {"model": name} | _core(evidence, rows) | _seeds(rows)
        row["n_errors"] = evidence.errors(name, "tasks")
        table.append(row | _delta(contrasts.get(name), corrected.get(name), "delta_"))
    return table


def per_quadrant(evidence: Evidence) -> list[Row]:
    """Return per_quadrant_results.csv: failure states, by model and quadrant."""
    table: list[Row] = []
    for name in evidence.models:
        for quadrant in QUADRANTS:
            rows = evidence.of(name, "snapshots", quadrant)
            row = {"model": name, "quadrant": quadrant} | _core(evidence, rows) | _seeds(rows)
            table.append(
                row
                | {
                    "n_errors": evidence.errors(name, "snapshots", quadrant),
                    "n_asked": evidence.asked,
                    "first_action_accuracy": mean_or_none([r.first_action_correct for r in rows]),
                    "mean_expert_probability": mean_or_none([r.expert_probability for r in rows]),
                }
            )
    return table


def transfer_matrix(evidence: Evidence) -> list[Row]:
    """Return transfer_matrix.csv: each model less BASE in each quadrant; Holm over all cells."""
    contrasts: dict[tuple[str, str], tuple[Paired, Paired]] = {}
    table: list[Row] = []
    for name in evidence.models[1:]:
        train_quadrant, supervision = identity_of(name)
        for quadrant in QUADRANTS:
            rows = evidence.of(name, "snapshots", quadrant)
            base = evidence.of(BASE, "snapshots", quadrant)
            contrasts[name, quadrant] = _against(evidence, rows, base)
            both = set(successes(rows)) & set(successes(base))
            table.append(
                {
                    "model": name,
                    "train_quadrant": train_quadrant,
                    "supervision": supervision,
                    "eval_quadrant": quadrant,
                    "success_rate": _mean_of(successes(rows), both),
                    "base_success": _mean_of(successes(base), both),
                }
            )
    corrected = _holm({key: each[0] for key, each in contrasts.items()})
    for row, (key, each) in zip(table, contrasts.items(), strict=True):
        row |= _delta(each, corrected[key])
    return table


def retention(evidence: Evidence) -> list[Row]:
    """Return retention_results.csv: tasks that BASE solved in its independent pass."""
    kept = {
        name: [row for row in evidence.of(name, "tasks") if row.task_id in evidence.retention]
        for name in evidence.models
    }
    contrasts = {name: _against(evidence, kept[name], kept[BASE]) for name in evidence.models[1:]}
    corrected = _holm({name: each[0] for name, each in contrasts.items()})
    table: list[Row] = []
    for name in evidence.models:
        both = set(successes(kept[name])) & set(successes(kept[BASE]))
        success, chance = contrasts.get(name, (NOTHING, NOTHING))
        row: Row = {
            "model": name,
            "n": len(kept[name]),
            "retention_success_rate": _mean_of(successes(kept[name]), both),
            "base_retention_success_rate": _mean_of(successes(kept[BASE]), both),
            "retention_drop": 0.0 if name == BASE and both else _minus(success.delta),
            "lo": _minus(success.hi),
            "hi": _minus(success.lo),
            "n_tasks": len(both),
            "p": success.p,
            "p_mcnemar": success.p_mcnemar,
            "p_holm": corrected.get(name),
            "probability_drop": _minus(chance.delta),
            "probability_drop_lo": _minus(chance.hi),
            "probability_drop_hi": _minus(chance.lo),
        }
        table.append(row)
    return table


def stuckness_table(evidence: Evidence) -> list[Row]:
    """Return stuckness_results.csv: how often episodes go in circles."""
    table: list[Row] = []
    datasets: tuple[Dataset, ...] = ("tasks", "snapshots")
    for name in evidence.models:
        for dataset in datasets:
            rows = evidence.of(name, dataset)
            repeats = _means((row.start, row.repeat_rate) for row in rows)
            loops = _means((row.start, row.loop_rate) for row in rows)
            repeat = rate(repeats, evidence.task_of, binary=False)
            loop = rate(loops, evidence.task_of)
            table.append(
                {
                    "model": name,
                    "dataset": dataset,
                    "n": len(rows),
                    "mean_repeat_rate": repeat.mean,
                    "mean_loop_rate": loop.mean,
                    "mean_steps": mean_or_none([row.steps for row in rows]),
                    "repeat_lo": repeat.lo,
                    "repeat_hi": repeat.hi,
                    "loop_lo": loop.lo,
                    "loop_hi": loop.hi,
                    "mean_immediate_repeat_rate": mean_or_none(
                        [row.immediate_repeat_rate for row in rows]
                    ),
                    "mean_wasted_rate": mean_or_none([row.wasted_rate for row in rows]),
                    "mean_escape_latency": mean_or_none([row.escape_latency for row in rows]),
                    "n_stuck": sum(row.escape_latency is not None for row in rows),
                    "n_errors": evidence.errors(name, dataset),
                }
            )
    return table


def transfer_diagonal(evidence: Evidence, *, of_probability: bool = False) -> Diagonal:
    """Return the pooled contrast of own against other quadrants, over the 12 matrix models."""
    pick = probabilities if of_probability else successes
    own = {
        name: identity_of(name)[0] for name in evidence.models if identity_of(name)[0] in QUADRANTS
    }
    values = {name: pick(evidence.of(name, "snapshots")) for name in own}
    return diagonal(values, own, evidence.quadrant_of, evidence.task_of)


def identity_of(model: str) -> tuple[str, str]:
    """Return (train quadrant, supervision) of a run id; baselines are of quadrant "all".

    >>> identity_of("Q4_lowU_highL_contrast"), identity_of("B1_uniform")
    (('Q4_lowU_highL', 'contrast'), ('all', 'demo'))
    """
    for quadrant in QUADRANTS:
        for supervision in FORMATS:
            if model == f"{quadrant}_{supervision}":
                return quadrant, supervision
    return "all", "demo"


def read_episodes(path: Path) -> tuple[EpisodeRow, ...]:
    """Read episodes.jsonl.

    Raises:
        DataError: the file is missing or damaged, or a row has other fields.
    """
    rows = []
    for number, row in enumerate(read_json_lines(path), start=1):
        try:
            rows.append(EpisodeRow(**row))
        except TypeError as error:
            raise DataError(f"{path}:{number}: not an evaluated episode: {error}") from None
    return tuple(rows)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table of COLUMNS, whole or not at all; what is missing is an empty cell.

    Raises:
        DataError: a row lacks a documented column.
    """
    documented = COLUMNS[path.name]
    names = list(dict.fromkeys([*documented, *(name for row in rows for name in row)]))
    for row in rows:
        missing = [name for name in documented if name not in row]
        if missing:
            raise DataError(f"{path.name}: a row lacks the column {', '.join(missing)}")
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def _core(evidence: Evidence, rows: Sequence[EpisodeRow]) -> Row:
    success = rate(successes(rows), evidence.task_of)
    chance = rate(probabilities(rows), evidence.task_of, binary=False)
    return {
        "n": len(rows),
        "success_rate": success.mean,
        "mean_reward": mean_or_none([row.total_reward for row in rows]),
        "mean_steps": mean_or_none([row.steps for row in rows]),
        "lo": success.lo,
        "hi": success.hi,
        "n_tasks": success.clusters,
        "success_probability": chance.mean,
        "probability_lo": chance.lo,
        "probability_hi": chance.hi,
        "n_probability": chance.n,
    }


def _seeds(rows: Sequence[EpisodeRow]) -> Row:
    """Return the number of training seeds and the spread of their success rates."""
    by_seed: dict[int, list[bool | None]] = {}
    for row in rows:
        if row.train_seed is not None:
            by_seed.setdefault(row.train_seed, []).append(row.success)
    rates = [each for each in map(mean_or_none, by_seed.values()) if each is not None]
    if len(rates) < 2:
        return {"n_seeds": len(rates), "seed_sd": None}
    mean = math.fsum(rates) / len(rates)
    spread = math.fsum((each - mean) ** 2 for each in rates) / (len(rates) - 1)
    return {"n_seeds": len(rates), "seed_sd": math.sqrt(spread)}


def _against(
    evidence: Evidence, rows: Sequence[EpisodeRow], base: Sequence[EpisodeRow]
) -> tuple[Paired, Paired]:
    """Return the contrasts of successes and of success probabilities."""
    return (
        paired(successes(rows), successes(base), evidence.task_of),
        paired(probabilities(rows), probabilities(base), evidence.task_of),
    )


def _delta(each: tuple[Paired, Paired] | None, p_holm: float | None, before: str = "") -> Row:
    """Return the columns of a contrast with BASE; `before` names whose interval it is."""
    success, chance = each or (NOTHING, NOTHING)
    return {
        "delta_success": success.delta,
        f"{before}n": success.n,
        f"{before}n_tasks": success.clusters,
        f"{before}lo": success.lo,
        f"{before}hi": success.hi,
        "p": success.p,
        "p_mcnemar": success.p_mcnemar,
        "p_holm": p_holm,
        "delta_probability": chance.delta,
        "delta_probability_lo": chance.lo,
        "delta_probability_hi": chance.hi,
        "p_probability": chance.p,
    }


def _holm(contrasts: Mapping[Any, Paired]) -> dict[Any, float | None]:
    return dict(zip(contrasts, adjusted([each.p for each in contrasts.values()]), strict=True))


def _means(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for start, value in pairs:
        if value is not None:
            found.setdefault(start, []).append(float(value))
    return {start: math.fsum(values) / len(values) for start, values in found.items()}


def _mean_of(values: Mapping[str, float], starts: Iterable[str]) -> float | None:
    return mean_or_none([values[start] for start in sorted(starts)])


def _minus(value: float | None) -> float | None:
    return None if value is None else 0.0 - value
