"""What a selection study left, as the documented files: one folder a method, one table for all.

Knows the study folder and the names of the files. Refuses to guess what a run trained on: it reads
what the run wrote down, and stops when that is not what its method chooses.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson

from cupel.config import to_dict, validate
from cupel.errors import DataError
from cupel.lab.files import read_json, write_atomically, write_json
from cupel.lab.randomness import Randomness
from cupel.lab.store import RunRecord, StudyRecord
from cupel.teach.labelling.files import read_labels
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.prediction.targets import elp_of
from cupel.teach.selection.ranking import Method, oracle_value
from cupel.teach.training.config import (
    FinetuneConfig,
    moments_of,
    supervision_of,
)
from cupel.teach.training.supervision import Supervision

COLUMNS = (
    "method", "n_selected", "n_examples", "uncertainty_mean", "elp_mean", "training_summary_path",
    "budget_k", "n_seeds", "elp_split_mean", "oracle_value_mean", "n_tasks",
    "success_rate_mean", "panel_success_rate_mean", "retention_rate_mean",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One condition of the study: what its seeds chose, and the runs that trained on it."""

    label: str
    config: FinetuneConfig
    method: Method
    folder: str
    seeds: tuple[int, ...]
    moments: Mapping[int, tuple[LabelledMoment, ...]]
    examples: Mapping[int, Supervision]
    runs: Mapping[int, RunRecord]

    @property
    def done(self) -> list[int]:
        """Seeds whose run is complete."""
        return [seed for seed in self.seeds if self.runs[seed].result is not None]


def write_selection(record: StudyRecord, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write every documented file of phase 5 into the study folder; return the table's rows.

    Args:
        given: what was asked for, as selection_config.json keeps it.

    Raises:
        DataError: a run trained on other moments than its method chooses from these labels.
    """
    found = chosen_of(record)
    write_json(record.folder / "selection_config.json", given)
    rows = [_write_method(record.folder, one) for one in found]
    _write_table(record.folder / "selection_comparison.csv", rows)
    summary = {
        "config": dict(given),
        "n_input_records": len(read_labels(Path(str(given["labeled_snapshots"])))),
        "methods": [
            {
                "method": one.folder,
                "n_selected": row["n_selected"],
                "n_examples": row["n_examples"],
                "stats": _stats(one.moments[one.seeds[0]]),
                "output_dir": str(record.folder / one.folder),
                "training_summary_path": row["training_summary_path"],
                "seeds": list(one.seeds),
                "seeds_done": one.done,
            }
            for one, row in zip(found, rows, strict=True)
        ],
    }
    write_json(record.folder / "selection_summary.json", summary)
    return rows


def chosen_of(record: StudyRecord) -> list[Chosen]:
    """Repeat every condition's choice for every seed, and hold it against what was trained on."""
    found = []
    labels: dict[str, tuple[LabelledMoment, ...]] = {}
    for condition in record.study.conditions:
        runs = {run.seed: run for run in record.runs if run.condition == condition.label}
        seeds = [seed for seed in record.study.seeds if seed in runs]
        config = config_of(runs[seeds[0]])
        if config.selection.rule == "none":
            continue
        if config.labels not in labels:
            labels[config.labels] = read_labels(Path(config.labels))
        rows = labels[config.labels]
        picked = {seed: moments_of(config, rows, Randomness(seed)) for seed in seeds}
        made = {seed: supervision_of(config, picked[seed]) for seed in seeds}
        for seed in seeds:
            _refuse_other(runs[seed], made[seed])
        found.append(
            Chosen(
                label=condition.label,
                config=config,
                method=cast(Method, config.selection.rule),
                folder=(config.run_id or condition.label).removeprefix("selection_"),
                seeds=tuple(seeds),
                moments={seed: picked[seed].labels for seed in seeds},
                examples=made,
                runs={seed: runs[seed] for seed in seeds},
            )
        )
    return found


def config_of(run: RunRecord) -> FinetuneConfig:
    """Return the settings a run was planned with."""
    return validate(FinetuneConfig, run.config["resolved"], where=f"{run.folder}: resolved")


def _refuse_other(run: RunRecord, made: Supervision) -> None:
    """Compare with run_config.json, which a run writes before it trains."""
    path = run.folder / "run_config.json"
    if not path.is_file():
        return
    trained = set(read_json(path).get("trained_snapshots", {}))
    ours = {example.snapshot_id for example in made.examples}
    if trained != ours:
        raise DataError(
            f"{path}: trained on {len(trained)} snapshots, of which {len(trained & ours)} are "
            f"among the {len(ours)} its method chooses from the labels as they are now; the labels "
            "or the predictor changed since. Run the study again in an empty folder"
        )


def _write_method(folder: Path, one: Chosen) -> dict[str, Any]:
    """Write a method's folder; documented files are those of the first seed."""
    place, first = folder / one.folder, one.seeds[0]
    place.mkdir(parents=True, exist_ok=True)
    chosen, made = one.moments[first], one.examples[first]
    _write_list(place / "selected_snapshots.json", [_snapshot(label) for label in chosen])
    _write_list(
        place / "training_data.json",
        [{"input": e.prompt, "output": e.completion} | asdict(e) for e in made.examples],
    )
    by_seed = {str(seed): [label.id for label in one.moments[seed]] for seed in one.seeds}
    write_json(place / "selected_by_seed.json", by_seed)
    write_json(place / "training_result.json", _training_result(one))
    summary = place / "training_summary.json"
    write_json(summary, _training_summary(one))
    stats = _stats(chosen)
    return {
        "method": one.folder,
        "n_selected": len(chosen),
        "n_examples": len(made.examples),
        "uncertainty_mean": stats["uncertainty_mean"],
        "elp_mean": stats["elp_mean"],
        "training_summary_path": str(summary),
        "budget_k": one.config.selection.budget,
        "n_seeds": len(one.done),
        "elp_split_mean": stats["elp_split_mean"],
        "oracle_value_mean": stats["oracle_value_mean"],
        "n_tasks": stats["n_tasks"],
        **{f"{name}_mean": _mean(_ends(one, name)) for name in _TABLED},
    }


_TABLED = ("success_rate", "panel_success_rate", "retention_rate")


def _training_result(one: Chosen) -> dict[str, Any]:
    first = one.runs[one.seeds[0]]
    return {
        "status": "completed" if len(one.done) == len(one.seeds) else "incomplete",
        "n_examples": len(one.examples[one.seeds[0]].examples),
        "output_dir": str(first.folder),
        "training_result": (first.result or {}).get("values"),
        "by_seed": {
            str(seed): {"status": run.status, "values": (run.result or {}).get("values")}
            for seed, run in one.runs.items()
        },
    }


def _training_summary(one: Chosen) -> dict[str, Any]:
    run_id = one.config.run_id or one.label
    paths = {seed: str(one.runs[seed].folder / "model") for seed in one.done}
    trained = {
        example.snapshot_id: example.task_id
        for made in one.examples.values()
        for example in made.examples
    }
    return {
        "n_runs": 1,
        "n_completed": int(bool(paths)),
        "model_paths": {run_id: paths[one.done[0]] if paths else ""},
        "model_paths_by_seed": {str(seed): {run_id: paths.get(seed, "")} for seed in one.seeds},
        "base_model": one.config.student.model or one.config.student.backend,
        "student": to_dict(one.config.student),
        "method": one.method,
        "budget_k": one.config.selection.budget,
        "trained_snapshots": trained,
    }


def _snapshot(label: LabelledMoment) -> dict[str, Any]:
    payoff = elp_of(label)
    return {
        "snapshot_id": label.id,
        "quadrant": label.quadrant,
        "uncertainty": label.U,
        "elp_net": None if label.patch_test is None else label.patch_test.ELP_net,
        "elp_split": None if payoff is None else payoff.value,
        "task_id": label.moment.task_id,
    }


def _stats(labels: Sequence[LabelledMoment]) -> dict[str, Any]:
    """Return means over the moments that have the label; None where none has."""
    tests = [label.patch_test for label in labels]
    payoffs = [elp_of(label) for label in labels]
    u = [label.U for label in labels if label.U is not None]
    naive = [test.ELP_net for test in tests if test is not None]
    split = [payoff.value for payoff in payoffs if payoff is not None]
    oracle = [value for value in map(oracle_value, labels) if value is not None]
    return {
        "n": len(labels),
        "n_tasks": len({label.moment.task_id for label in labels}),
        "quadrant_distribution": dict(sorted(Counter(each.quadrant for each in labels).items())),
        "uncertainty_mean": _mean(u),
        "uncertainty_std": _sd(u),
        "elp_mean": _mean(naive),
        "elp_std": _sd(naive),
        "elp_split_mean": _mean(split),
        "oracle_value_mean": _mean(oracle),
    }


def _ends(one: Chosen, name: str) -> list[float]:
    found = [(one.runs[seed].result or {}).get("values", {}) for seed in one.done]
    return [values[f"{name}_end"] for values in found if values.get(f"{name}_end") is not None]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values)) if values else None


def _write_list(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    data = orjson.dumps([dict(row) for row in rows], option=orjson.OPT_INDENT_2)
    write_atomically(path, data + b"\n")


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
