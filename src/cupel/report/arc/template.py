"""The experiment record of an ARC model, filled in from run folders; no number in it is typed.

Reads `arc.train` and `arc.evaluate` run folders. Refuses to guess: what a folder does not hold is
said to be not measured, and what only a person can write is left open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.arc.gates import GENERALISE, OVERFIT, criterion_1
from cupel.errors import DataError
from cupel.lab.files import read_json
from cupel.lab.store import RunRecord, read_run

OPEN = "–"
_NOT = "not measured"
_TRAIN, _EVALUATE = "arc.train", "arc.evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """The runs of one experiment.

    Attributes:
        overfit: a training on capped groups (phase 1).
        full: a training on all groups (phase 2).
        heldout: an evaluation on held-out puzzles.
    """

    overfit: RunRecord | None
    full: RunRecord | None
    heldout: RunRecord | None

    @property
    def first(self) -> RunRecord:
        """The run that the configuration is read from."""
        found = self.overfit or self.full or self.heldout
        assert found is not None
        return found


def read_experiment(folders: Sequence[Path]) -> Experiment:
    """Tell apart the runs of one experiment by what they are.

    Raises:
        DataError: no folder, a folder that is no run of this kind, or two for one place.
    """
    places: dict[str, RunRecord] = {}
    for folder in folders:
        record = read_run(folder)
        place = _place(record)
        if place in places:
            raise DataError(
                f"{folder} and {places[place].folder} are both the {place} run of the experiment; "
                "name one"
            )
        places[place] = record
    if not places:
        raise DataError("template: no run folder was named")
    return Experiment(
        overfit=places.get("overfit"), full=places.get("full"), heldout=places.get("heldout")
    )


def template(experiment: Experiment, *, name: str | None = None, goal: str | None = None) -> str:
    """Return the record in Markdown."""
    first = experiment.first
    lines = [
        f"### Experiment: {name or first.folder.name}",
        "",
        f"**Date**: {_date(first)}",
        f"**Goal**: {goal or OPEN}",
        f"**Changes from baseline**: {_changes(first)}",
        "",
        "**Configuration**:",
        *_configuration(first),
        "",
        *_phase_1(experiment.overfit),
        "",
        *_phase_2(experiment.full, experiment.heldout),
        "",
        "**Analysis**:",
        *_observations(experiment),
        f"- Why it worked/failed: {OPEN}",
        f"- Next steps: {OPEN}",
        "",
        "**Runs**: " + ", ".join(f"`{run.folder}`" for run in _runs(experiment)),
    ]
    return "\n".join(lines) + "\n"


def _place(record: RunRecord) -> str:
    recipe = record.config.get("recipe")
    resolved: Mapping[str, Any] = record.config.get("resolved", {})
    if recipe == _TRAIN:
        return "overfit" if resolved.get("max_train_groups") is not None else "full"
    if recipe == _EVALUATE and resolved.get("view") == "heldout":
        return "heldout"
    what = f"a run of {recipe}" if recipe != _EVALUATE else "an evaluation of train_probe"
    raise DataError(f"{record.folder}: {what}; a template is made of arc.train and held-out runs")


def _configuration(record: RunRecord) -> list[str]:
    resolved: Mapping[str, Any] = record.config["resolved"]
    if "encoder" not in resolved:
        return [f"- of the training {resolved.get('checkpoint')}"]
    encoder = resolved["encoder"]
    kind = encoder["kind"] + (", variational" if encoder.get("variational") else "")
    shown = ("hidden_size", "H_cycles", "L_cycles", "lr", "global_batch_size", "max_steps")
    rest = ", ".join(f"{key}={resolved[key]}" for key in shown if key in resolved)
    decoder = resolved.get("load_pretrained_decoder")
    return [
        f"- Encoder: {kind}",
        f"- Pre-trained decoder: {f'yes, {decoder}' if decoder else 'no'}",
        f"- halt_max_steps: {resolved['halt_max_steps']}",
        f"- halt_exploration_prob: {resolved['halt_exploration_prob']}",
        f"- Other hyperparameters: {rest}; seed {record.seed}",
    ]


def _phase_1(record: RunRecord | None) -> list[str]:
    if record is None:
        return ["**Phase 1 results (overfit)**: no run"]
    groups = record.config["resolved"]["max_train_groups"]
    rows = _rows(record, "evaluations.jsonl")
    last = rows[-1] if rows else {}
    gate = criterion_1(last)
    reached = next((row["step"] for row in rows if (row.get("em_at_halt") or 0) > OVERFIT), None)
    return [
        f"**Phase 1 results (overfit, {groups} groups)**:",
        f"- Train exact match at halt: {_rate(last, 'em_at_halt', 'puzzles')}",
        f"- Context gain: {_rate(last, 'context_gain', 'context_gain_n', signed=True)}",
        f"- Steps to converge (over {OVERFIT:.0%}): {OPEN if reached is None else reached}",
        f"- Issues encountered: {_issues(record, last)}",
        f"- Status: {_status(gate.passed)}",
    ]


def _phase_2(full: RunRecord | None, heldout: RunRecord | None) -> list[str]:
    if full is None and heldout is None:
        return ["**Phase 2 results (full data set)**: no run"]
    trained = _last(full, "evaluations.jsonl")
    judged = _last(heldout, "evaluations.jsonl")
    if judged:
        test, key = _rate(judged, "all.exact_accuracy", "all.exact_accuracy_n"), judged
        value = judged.get("all.exact_accuracy")
    else:
        test, key = _rate(trained, "heldout_em_at_halt", "heldout_puzzles"), trained
        value = trained.get("heldout_em_at_halt")
    label = key.get("contamination")
    lines = [
        "**Phase 2 results (full data set)**:",
        f"- Train EM: {_rate(trained, 'em_at_halt', 'puzzles')}",
        f"- Test EM: {test}{'' if label in (None, 'clean') else f' ({label})'}",
        f"- Pass@2: {_rate(judged, 'ARC/pass@2', 'ARC/pass@2_n')}",
        f"- Avg steps: {_number(trained.get('steps_at_halt', judged.get('steps_at_halt')))}",
    ]
    if full is not None:
        lines.append(f"- Issues encountered: {_issues(full, trained)}")
    return [*lines, f"- Status: {_phase_2_status(value)}"]


def _phase_2_status(value: float | None) -> str:
    if value is None:
        return _NOT
    if value >= GENERALISE:
        return f"✅ Pass (at least {GENERALISE:.0%} test EM)"
    return "⚠️ Partial (some generalization)" if value > 0 else "❌ Fail (0 % test EM)"


def _observations(experiment: Experiment) -> list[str]:
    said = []
    for record in _runs(experiment):
        row = _last(record, "evaluations.jsonl")
        if record.config["recipe"] == _TRAIN and row:
            said.append(f"- {record.folder.name}: criterion 1 {criterion_1(row).words}")
    return said or [f"- Key observations: {OPEN}"]


def _issues(record: RunRecord, last: Mapping[str, Any]) -> str:
    issues = []
    if record.failure is not None:
        issues.append(f"{record.failure['kind']}: {record.failure['message']}")
    elif record.status != "done":
        issues.append(f"the run is {record.status}")
    if last.get("health") in ("warn", "stop"):
        issues.append(f"health {last['health']} at step {last['step']} (cupel arc health says why)")
    return "; ".join(issues) or "none recorded"


def _changes(record: RunRecord) -> str:
    passed: Mapping[str, Any] = record.config.get("passed", {})
    changes = ", ".join(f"{key}={value}" for key, value in _flat(passed))
    return changes or "none: all settings at their defaults"


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((prefix + key, value))
    return flat


def _rate(row: Mapping[str, Any], name: str, n_key: str, *, signed: bool = False) -> str:
    value, low, high, n = (row.get(key) for key in (name, f"{name}_lo", f"{name}_hi", n_key))
    if value is None:
        return _NOT
    sign = "+" if signed else ""
    text = f"{100 * value:{sign}.1f} %"
    if low is not None and high is not None:
        text += f" [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
    return text + (f", n = {n:g}" if isinstance(n, int | float) else "")


def _number(value: float | None) -> str:
    return _NOT if value is None else f"{value:.2f}"


def _status(passed: bool | None) -> str:
    return _NOT if passed is None else "✅ Pass" if passed else "❌ Fail"


def _date(record: RunRecord) -> str:
    path = record.folder / "run.json"
    state = read_json(path) if path.is_file() else {}
    started = state.get("started_at") or state.get("planned_at")
    return str(started)[:10] if started else OPEN


def _rows(record: RunRecord, stream: str) -> list[dict[str, Any]]:
    return record.rows(stream) if record.has(stream) else []


def _last(record: RunRecord | None, stream: str) -> dict[str, Any]:
    rows = [] if record is None else _rows(record, stream)
    return rows[-1] if rows else {}


def _runs(experiment: Experiment) -> list[RunRecord]:
    found = (experiment.overfit, experiment.full, experiment.heldout)
    return [record for record in found if record is not None]
