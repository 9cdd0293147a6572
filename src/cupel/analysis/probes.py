"""A sweep's run folders read as probes, and its results as one document.

Reads only. Knows how the conditions of a sweep are named, and the keys of sweep_results.json.
Refuses to call a probe finished because it has written some rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cupel.analysis.endpoint import MetricMissing, observe
from cupel.analysis.sweep import Choice, Probe, ValueSummary, choose, extension
from cupel.errors import DataError
from cupel.lab.store import RunRecord, StudyRecord
from cupel.lab.study import Endpoint, StudyConfig, Tuning

RESULTS = "sweep_results.json"
SCHEMA = 1
_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReading:
    """The probes of a sweep, the choices they allow, and the document that says both."""

    probes: tuple[Probe, ...]
    choices: tuple[Choice, ...]
    results: Mapping[str, Any]

    @property
    def unchosen(self) -> tuple[str, ...]:
        """Algorithms for which no value could be chosen."""
        return tuple(one.algorithm for one in self.choices if one.value is None)


def read_sweep(record: StudyRecord, *, rng: np.random.Generator) -> SweepReading:
    """Score the probes of a sweep and choose a value for every algorithm.

    Raises:
        DataError: the study is no sweep, a condition's name does not say its value, or a stream
            is damaged.
    """
    tuning = tuning_of(record.study, where=str(record.folder))
    probes, rows = [], []
    for run in sorted(record.runs, key=_grid_order(record.study, tuning)):
        probe, row = _probe(run, record, tuning)
        probes.append(probe)
        rows.append(row)
    choices = choose(probes, select=tuning.select, rng=rng)
    results = _results(record, tuning, choices, rows)
    return SweepReading(probes=tuple(probes), choices=tuple(choices), results=results)


def tuning_of(study: StudyConfig, *, where: str) -> Tuning:
    """Return the `[tuning]` of a study, its grid spelled out.

    Raises:
        DataError: the study is no sweep, or a condition lacks its value.
    """
    if study.tuning is None:
        raise DataError(f"{where}: no sweep: its study file has no [tuning]")
    if study.tuning.values:
        return study.tuning
    values = [value_of(study, label) for label in study.labels]
    return study.tuning.model_copy(update={"values": list(dict.fromkeys(values))})


def value_of(study: StudyConfig, label: str) -> float:
    """Return the value of the tuned setting in a condition.

    Raises:
        DataError: the condition's config does not hold it as a number.
    """
    setting = study.tuning.setting if study.tuning is not None else "lr"
    config = next(one.config for one in study.conditions if one.label == label)
    value = config.get(setting)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise DataError(f"condition '{label}': {setting} is {value!r}; a sweep needs a value > 0")
    return float(value)


def algorithm_of(study: StudyConfig, label: str) -> str:
    """Return the algorithm of a condition named `<algorithm>_<setting><value>`.

    Raises:
        DataError: the condition is not named after its value.
    """
    setting = study.tuning.setting if study.tuning is not None else "lr"
    ending = f"_{setting}{value_of(study, label)!r}"
    if not label.endswith(ending) or label == ending:
        raise DataError(
            f"condition '{label}': a sweep's conditions are named <algorithm>_<setting><value>, "
            f"this one '<algorithm>{ending}'"
        )
    return label.removesuffix(ending)


def _grid_order(study: StudyConfig, tuning: Tuning) -> Callable[[RunRecord], Any]:
    """Order runs by algorithm, then along the grid as declared, added values at its ends."""
    algorithms = [algorithm_of(study, label) for label in study.labels]

    def key(run: RunRecord) -> Any:
        value = value_of(study, str(run.condition))
        place = (1, tuning.values.index(value)) if value in tuning.values else (0, value)
        if value > max(tuning.values):
            place = (2, value)
        first = algorithms.index(algorithm_of(study, str(run.condition)))
        return first, place, study.seeds.index(run.seed if run.seed is not None else -1)

    return key


def _probe(run: RunRecord, record: StudyRecord, tuning: Tuning) -> tuple[Probe, dict[str, Any]]:
    label = str(run.condition)
    rows = _rows(run)
    score = _score(run, record.study.endpoint) if run.status == "done" else None
    failure = str((run.failure or {}).get("kind", "unknown")) if run.status == "failed" else None
    probe = Probe(
        algorithm=algorithm_of(record.study, label),
        value=value_of(record.study, label),
        seed=int(run.seed if run.seed is not None else -1),
        status=_status(run, score),
        failure=failure,
        score=score,
        final_correct_rate=_last(rows, "correct_rate"),
        final_running_correct_rate=_last(rows, "running_correct_rate"),
    )
    losses = [row["loss"] for row in rows or () if row.get("loss") is not None]
    return probe, {
        "algorithm": probe.algorithm,
        tuning.setting: probe.value,
        "seed": probe.seed,
        "return_code": {"done": 0, "failed": 3}.get(run.status),
        "training_steps": len(rows) if rows is not None else None,
        "final_correct_rate": probe.final_correct_rate,
        "final_running_correct_rate": probe.final_running_correct_rate,
        "mean_loss": math.fsum(losses) / len(losses) if losses else None,
        "total_datums": sum(row.get("num_datums") or 0 for row in rows)
        if rows is not None
        else None,
        "status": probe.status,
        "score": score,
        "failure": dict(run.failure) if run.failure is not None else None,
        "folder": str(run.folder.relative_to(record.folder)),
    }


def _rows(run: RunRecord) -> list[dict[str, Any]] | None:
    """Read what a probe wrote; None for one that another process may be starting just now."""
    if run.status not in ("running", "done", "failed"):
        return None
    return run.rows("metrics.jsonl") if run.has("metrics.jsonl") else []


def _status(run: RunRecord, score: float | None) -> Literal["ok", "failed", "incomplete"]:
    if run.status == "failed":
        return "failed"
    return "ok" if run.status == "done" and score is not None else "incomplete"


def _score(run: RunRecord, endpoint: Endpoint) -> float | None:
    try:
        return observe(run, endpoint).value
    except MetricMissing:
        return None


def _last(rows: Sequence[Mapping[str, Any]] | None, key: str) -> float | None:
    return rows[-1].get(key) if rows else None


def _results(
    record: StudyRecord,
    tuning: Tuning,
    choices: Sequence[Choice],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    settings = _shared(record)
    chosen = [one for one in choices if one.value is not None]
    pending = extension(choices, declared=tuning.values, extend=tuning.extend)
    return {
        "schema": SCHEMA,
        "sweep_root": str(record.folder),
        "timestamp": record.manifest.get("created_at"),
        "complete": all(run.status in ("done", "failed") for run in record.runs) and not pending,
        "model": settings.get("model"),
        "lora_rank": settings.get("policy", {}).get("lora", {}).get("rank"),
        "probe_steps": settings.get("max_steps"),
        "batch_size": settings.get("batch_size"),
        "group_size": settings.get("group_size"),
        f"{tuning.setting}_values": tuning.values,
        "algorithms": [one.algorithm for one in choices],
        "probe_seeds": list(record.study.seeds),
        "score": record.study.endpoint.model_dump(mode="json"),
        "select": tuning.select,
        "extend": tuning.extend,
        "best_lr" if tuning.setting == "lr" else f"best_{tuning.setting}": {
            one.algorithm: {tuning.setting: one.value, "correct_rate": one.level} for one in chosen
        },
        "choices": {one.algorithm: _choice_facts(one, tuning) for one in choices},
        "rates": [_value_facts(value, tuning) for one in choices for value in one.values],
        "results": list(rows),
        "warnings": [text for one in choices for text in one.warnings],
        "settings": settings,
        "lock_sha256": (record.lock or {}).get("sha256"),
    }


def _choice_facts(choice: Choice, tuning: Tuning) -> dict[str, Any]:
    return {
        tuning.setting: choice.value,
        "select": choice.select,
        "grid": list(choice.grid),
        "within_1se": [one.value for one in choice.values if one.within_1se],
        "edge_of_grid": bool(choice.edges),
        "edges": list(choice.edges),
        "diverged": [one.value for one in choice.values if one.state == "diverged"],
        "warnings": list(choice.warnings),
    }


def _value_facts(value: ValueSummary, tuning: Tuning) -> dict[str, Any]:
    return {
        "algorithm": value.algorithm,
        tuning.setting: value.value,
        "state": value.state,
        "n_seeds": value.seeds,
        "mean": value.mean,
        "se": value.se,
        "interval": asdict(value.interval) if value.interval is not None else None,
        "running_correct_rate": value.running,
        "rank_probability": value.rank_probability,
        "within_1se": value.within_1se,
    }


def _shared(record: StudyRecord) -> dict[str, Any]:
    """Return the resolved settings that all probes share."""
    configs = [dict(run.config.get("resolved", {})) for run in record.runs]
    first = configs[0] if configs else {}
    return {
        key: value
        for key, value in first.items()
        if all(key in config and config[key] == value for config in configs)
    }


def results_path(folder: Path) -> Path:
    """Return where a sweep's results stand."""
    return folder / RESULTS
