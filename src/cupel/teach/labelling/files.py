"""Labelled moments on disk: labeled_snapshots.jsonl and .json, one row a snapshot.

Knows the documented keys and puts intervals and our own records beside them, so that reading
gives back what was written. Refuses to compute a label, and to invent one that a row lacks.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.lab.files import read_json_lines, read_lines, write_atomically
from cupel.teach.labelling.labels import (
    QUADRANTS,
    Depth,
    Estimate,
    LabelledMoment,
    Leverage,
    PatchTest,
    Uncertainty,
)
from cupel.teach.records import FORMATS, Hint, Moment, hint_of, moment_of, to_row

LINES = "labeled_snapshots.jsonl"
LIST = "labeled_snapshots.json"
_CONTAINERS = ("snapshots", "items", "data")
_LEVERAGE = ("p_policy", "p_force", "L_local", "p_expert", "L_upper")


def read_labels(path: Path) -> tuple[LabelledMoment, ...]:
    """Read labelled snapshots, or plain ones (then nothing is labelled yet).

    Accepts JSON lines, a JSON list, or an object with the list under `snapshots`, `items` or
    `data`; rows of labeled_snapshots, of failure_snapshots, or plain moments.

    Raises:
        DataError: names the file, the row, and what is missing or not unique in it.
    """
    labels = []
    seen: dict[str, int] = {}
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}: row {number}"
        label = label_of(row, where=where)
        first = seen.setdefault(label.id, number)
        if first != number:
            raise DataError(
                f"{where}: snapshot {label.id} again, first in row {first}; "
                "remove one of the two rows"
            )
        labels.append(label)
    return tuple(labels)


def write_labels(folder: Path, rows: Iterable[LabelledMoment]) -> None:
    """Write labeled_snapshots.jsonl and labeled_snapshots.json, each whole or not at all."""
    data = [orjson.dumps(row_of(label)) for label in rows]
    write_atomically(folder / LINES, b"".join(line + b"\n" for line in data))
    write_atomically(folder / LIST, b"[\n" + b",\n".join(data) + b"\n]\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a .jsonl file, of a JSON list, or of an object that holds one list.

    Raises:
        DataError: the file is missing or malformed, or holds no such list.
    """
    data = read_lines(path)
    if path.suffix == ".jsonl":
        return read_json_lines(path)
    try:
        content = json.loads(data)
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; give a .jsonl or .json file") from None
    if isinstance(content, dict):
        named = [content[name] for name in _CONTAINERS if isinstance(content.get(name), list)]
        content = named[0] if named else None
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(
            f"{path}: expected a list of snapshots, or an object with one under "
            f"{', '.join(_CONTAINERS)}"
        )
    return content


def row_of(label: LabelledMoment) -> dict[str, Any]:
    """Return the row of one labelled moment; floats survive the way to JSON and back."""
    moment = label.moment
    row = {
        "snapshot_id": label.id,
        "task_id": moment.task_id,
        "split": moment.split,
        "held_out": moment.split != "train",
        "snapshot": snapshot_row(moment, label.hint),
        "U": label.U,
        "uncertainty_features": None if label.uncertainty is None else asdict(label.uncertainty),
        "leverage": None if label.leverage is None else _leverage_row(label.leverage),
        "cpt": None if label.patch_test is None else _patch_row(label.patch_test),
        "depth": None if label.depth is None else _depth_row(label.depth),
        "quadrant": label.quadrant,
        "quadrant_probs": dict(label.quadrant_probs),
        "moment": to_row(moment),
        "hint": None if label.hint is None else to_row(label.hint),
    }
    canonical_json(row)  # refuses what is not finite, which orjson would write as null
    return row


def label_of(row: Mapping[str, Any], *, where: str) -> LabelledMoment:
    """Read one row.

    Raises:
        DataError: says where, and what the row lacks.
    """
    try:
        return LabelledMoment(
            moment=_moment_of(row, where),
            hint=None if row.get("hint") is None else hint_of(row["hint"]),
            U=row.get("U"),
            uncertainty=_maybe(row.get("uncertainty_features"), lambda r: Uncertainty(**r)),
            leverage=_maybe(row.get("leverage"), _leverage_of),
            patch_test=_maybe(row.get("cpt"), _patch_of),
            depth=_maybe(row.get("depth"), _depth_of),
            quadrant=_quadrant_of(row.get("quadrant", "UNASSIGNED"), where),
            quadrant_probs=dict(row.get("quadrant_probs") or {}),
        )
    except KeyError as error:
        raise DataError(f"{where}: no {error}; label the snapshots again") from None
    except TypeError as error:
        raise DataError(f"{where}: {error}; label the snapshots again") from None


def snapshot_row(moment: Moment, hint: Hint | None = None) -> dict[str, Any]:
    """Return the documented snapshot record of a moment.

    `env_state_b64` is the way to the state as base64 of JSON (environment, level, version, seed,
    actions, state hash); `timestamp` is null, for equal input makes equal files.
    """
    return {
        "id": moment.id,
        "task_id": moment.task_id,
        "step_idx": moment.step_idx,
        "trajectory_id": moment.trajectory_id,
        "env_state_b64": _way_back(moment),
        "observation": moment.observation,
        "valid_actions": list(moment.valid_actions),
        "agent_prefix": moment.task,
        "last_action": moment.snapshot.actions[-1] if moment.snapshot.actions else None,
        "action_type": moment.failure_type,
        "teacher_hint": None if hint is None or not hint.valid else _teacher_hint_row(hint),
        "trajectory_outcome": moment.outcome,
        "timestamp": None,
        "instruction_text": moment.task,
    }


def _teacher_hint_row(hint: Hint) -> dict[str, Any]:
    return {
        "suggested_action": hint.suggested_action,
        "rationale": hint.rationale,
        "error_type": hint.error_type,
        "confidence": hint.confidence,
        "diagnosis": hint.diagnosis,
        "model": hint.teacher,
        "leaks_action": hint.leaks_action,
    }


def _leverage_row(leverage: Leverage) -> dict[str, Any]:
    estimates = {name: getattr(leverage, name) for name in _LEVERAGE}
    return {
        "p_policy": leverage.p_policy.value,
        "p_force": leverage.p_force.value,
        "L_local": leverage.L_local.value,
        "n_force_rollouts": leverage.p_force.n,
        "p_expert": leverage.p_expert.value,
        "L_upper": leverage.L_upper.value,
        "n_expert_rollouts": leverage.p_expert.n,
        "leverage_gap": leverage.gap,
        "n_policy_rollouts": leverage.p_policy.n,
        "intervals": _intervals(estimates),
    }


def _leverage_of(row: Mapping[str, Any]) -> Leverage:
    return Leverage(**{name: _estimate(row[name], row["intervals"][name]) for name in _LEVERAGE})


def _patch_row(test: PatchTest) -> dict[str, Any]:
    p = {"p_base": test.p_base, "p_placebo": test.p_placebo, "p_shuffled": test.p_shuffled}
    p |= {f"p_{name}": estimate for name, estimate in test.p.items()}
    raw = {name: estimate.value for name, estimate in test.gain_raw.items()}
    counts = [estimate.n for estimate in p.values() if estimate is not None]
    known = [n for n in counts if n is not None]
    return {
        **{name: None if estimate is None else estimate.value for name, estimate in p.items()},
        "n_per_condition": min(known) if len(known) == len(counts) else None,
        "patch_gain_raw": raw,
        "patch_gain_net": {name: estimate.value for name, estimate in test.gain_net.items()},
        "p_base_retention": None,
        "p_placebo_retention": None,
        "patch_retention": {},
        "total_episodes": test.total_episodes,
        "ELP_raw": test.ELP_raw,
        "ELP_net": test.ELP_net,
        "route_raw": max(raw, key=lambda name: raw[name]),
        "route_net": test.route_net,
        "ELP_split": None if test.ELP_split is None else test.ELP_split.value,
        "route_split": test.route_split,
        "oracle_half": test.oracle_half,
        "intervals": {
            **_intervals(p),
            **_intervals({"ELP_split": test.ELP_split}),
            "patch_gain_raw": _intervals(test.gain_raw),
            "patch_gain_net": _intervals(test.gain_net),
        },
    }


def _patch_of(row: Mapping[str, Any]) -> PatchTest:
    beside = row["intervals"]

    def one(name: str) -> Estimate | None:
        return None if row.get(name) is None else _estimate(row[name], beside[name])

    def gains(name: str) -> dict[str, Estimate]:
        return {m: _estimate(value, beside[name][m]) for m, value in row[name].items()}

    tested = [name for name in FORMATS if name in row["patch_gain_raw"]]
    return PatchTest(
        p_base=_estimate(row["p_base"], beside["p_base"]),
        p_placebo=_estimate(row["p_placebo"], beside["p_placebo"]),
        p_shuffled=one("p_shuffled"),
        p={name: _estimate(row[f"p_{name}"], beside[f"p_{name}"]) for name in tested},
        gain_raw=gains("patch_gain_raw"),
        gain_net=gains("patch_gain_net"),
        ELP_raw=row["ELP_raw"],
        ELP_net=row["ELP_net"],
        route_net=row["route_net"],
        ELP_split=one("ELP_split"),
        route_split=row["route_split"],
        oracle_half=row["oracle_half"],
        total_episodes=row["total_episodes"],
    )


def _depth_row(depth: Depth) -> dict[str, Any]:
    known = depth.d_force is not None and depth.d_expert is not None
    return {
        "d_expert": depth.d_expert,
        "d_force": depth.d_force,
        "depth_gap": (depth.d_force or 0) - (depth.d_expert or 0) if known else None,
        "offsets": list(depth.offsets),
    }


def _depth_of(row: Mapping[str, Any]) -> Depth:
    return Depth(d_expert=row["d_expert"], d_force=row["d_force"], offsets=tuple(row["offsets"]))


def _intervals(estimates: Mapping[str, Estimate | None]) -> dict[str, Any]:
    return {
        name: {"lo": estimate.lo, "hi": estimate.hi, "n": estimate.n}
        for name, estimate in estimates.items()
        if estimate is not None
    }


def _estimate(value: float, interval: Mapping[str, Any]) -> Estimate:
    return Estimate(value=value, lo=interval["lo"], hi=interval["hi"], n=interval["n"])


def checked_moment(row: Mapping[str, Any], *, where: str) -> Moment:
    """Read `moment` of a row, and hold the documented `env_state_b64` beside it to the same state.

    Raises:
        DataError: the two lead to different states.
    """
    moment = moment_of(row["moment"])
    snapshot = row.get("snapshot")
    said = (snapshot if isinstance(snapshot, Mapping) else row).get("env_state_b64")
    if said is not None and _decoded(said) != _decoded(_way_back(moment)):
        raise DataError(
            f"{where}: env_state_b64 and 'moment' lead to different states; one of them was "
            "changed. Mine the snapshots again, or remove 'moment' to use env_state_b64"
        )
    return moment


def _way_back(moment: Moment) -> str:
    return base64.b64encode(canonical_json(to_row(moment.snapshot)).encode()).decode()


def _decoded(text: str) -> Any:
    try:
        return json.loads(base64.b64decode(text))
    except ValueError:
        return None


def _moment_of(row: Mapping[str, Any], where: str) -> Moment:
    if isinstance(row.get("moment"), Mapping):
        return checked_moment(row, where=where)
    if isinstance(row.get("snapshot"), Mapping) and "state_hash" in row["snapshot"]:
        return moment_of(row)
    raise DataError(
        f"{where}: no 'moment', the record of how to get back to the state; "
        "mine the snapshots with cupel teach mine"
    )


def _quadrant_of(name: Any, where: str) -> Any:
    allowed: Sequence[str] = (*QUADRANTS, "UNASSIGNED")
    if name not in allowed:
        raise DataError(f"{where}: quadrant {name!r}; allowed: {', '.join(allowed)}")
    return name


def _maybe(value: Any, read: Any) -> Any:
    return None if value is None else read(value)
