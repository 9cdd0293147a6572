"""What each way of selecting brought: from an evaluation of its model, or from the study's runs.

Knows the documented layout (`<method>/eval/*.csv`) and the study that `cupel teach select` leaves,
whose runs evaluate themselves before and after training. Refuses to compare methods of which only
some were evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.lab.store import RunRecord, is_study_folder, read_study
from cupel.report.teach.measures import Measure, gain_on_panel, measure
from cupel.report.teach.results import MissingInput, Row, TeachResults, number, only, read_table
from cupel.stats.intervals import mean_of, student_interval
from cupel.stats.samples import vector
from cupel.teach.evaluation.tables import BASE

_PREFIX = "selection_"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodPoint:
    """A selection method between what its models gained and what they lost.

    Attributes:
        method: its name, with the budget behind it where several were compared.
        gain: success on the failure panel less the start's; drop: retained tasks lost.
        of: what the intervals are over: `failure states` of one model, or `seeds`.
    """

    method: str
    gain: Measure
    drop: Measure
    of: str


def selection_points(results: TeachResults) -> list[MethodPoint]:
    """Return gain and drop of each method, from evaluations where they are, else from the runs.

    Raises:
        MissingInput: neither is there for every method; names what is missing.
    """
    folder = results.selection_folder()
    methods = selection_methods(results.json("selection_summary.json"))
    if not methods:
        raise MissingInput(f"{folder / 'selection_summary.json'}: names no method")
    without = [method for method in methods if not (folder / method / "eval").is_dir()]
    if not without:
        return [point for method in methods for point in _evaluated(folder, method)]
    if not is_study_folder(folder):
        raise MissingInput(f"{without[0]}/eval: not in {folder}, and no runs of a study either")
    return _of_runs(folder, methods)


def selection_methods(summary: Mapping[str, Any]) -> list[str]:
    """Return the names of the methods in selection_summary.json."""
    return [str(each["method"]) for each in summary.get("methods", ())]


def _evaluated(folder: Path, method: str) -> list[MethodPoint]:
    place = folder / method / "eval"
    retention = read_table(place / "retention_results.csv")
    return [
        MethodPoint(
            method=method,
            gain=gain_on_panel(place, model),
            drop=measure(only(retention, model=model), "retention_drop"),
            of="failure states",
        )
        for model in dict.fromkeys(row["model"] for row in retention if row["model"] != BASE)
    ]


def _of_runs(folder: Path, methods: Sequence[str]) -> list[MethodPoint]:
    changes: dict[str, list[tuple[float | None, float | None]]] = {name: [] for name in methods}
    for run in read_study(folder).runs:
        method = _method_of(run)
        if method in changes and run.result is not None:
            changes[method].append(_change(run))
    unfinished = [name for name, found in changes.items() if not found]
    if unfinished:
        raise MissingInput(f"{folder}: no complete run of {', '.join(unfinished)}")
    return [
        MethodPoint(
            method=name,
            gain=_over_seeds([gain for gain, _ in found]),
            drop=_over_seeds([drop for _, drop in found]),
            of="seeds",
        )
        for name, found in changes.items()
    ]


def _method_of(run: RunRecord) -> str:
    run_id = (run.config.get("resolved") or {}).get("run_id") or run.condition or ""
    return str(run_id).removeprefix(_PREFIX)


def _change(run: RunRecord) -> tuple[float | None, float | None]:
    """Return panel gain and retention drop between a run's first evaluation and its last."""
    rows: list[Row] = [*run.rows("evaluations.jsonl")] if run.has("evaluations.jsonl") else []
    if len(rows) < 2 or rows[0].get("step") != 0:
        return None, None
    first, last = rows[0], rows[-1]
    gain = _less(number(last, "panel_success_rate"), number(first, "panel_success_rate"))
    drop = _less(number(first, "retention_rate"), number(last, "retention_rate"))
    return gain, drop


def _over_seeds(values: Sequence[float | None]) -> Measure:
    known = [value for value in values if value is not None]
    if not known:
        return Measure(value=None)
    found = student_interval(known)
    ends = (None, None) if found is None else (found.low, found.high)
    mean = mean_of(vector(known, where="selection"))
    return Measure(value=mean, lo=ends[0], hi=ends[1], n=len(known))


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
