"""Which tasks and which failure states every model is evaluated on: chosen once, by hash.

Knows the splits of tasks. Refuses to fall back on what was trained on, and to depend on the
order of files or on a process's salted hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

from cupel.config import did_you_mean
from cupel.errors import ConfigError, DataError
from cupel.lab.files import read_lines
from cupel.teach.environments.base import EnvironmentConfig, task_id
from cupel.teach.evaluation.judging import Panel
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment
from cupel.teach.splits import SHARES, refuse_leaks, split_of

PANEL_SHARE = dict(SHARES)["panel"]
"""Share of all tasks whose failure states may be evaluated on."""
_CONTAINERS = ("panel", "tasks", "snapshots", "items", "data")
_ID_KEYS = ("snapshot_id", "id")


def evaluation_tasks(environment: EnvironmentConfig, n: int) -> tuple[int, ...]:
    """Return the first `n` seeds whose tasks are of the test split.

    >>> evaluation_tasks(EnvironmentConfig(name="corridor"), 3)
    (3, 28, 31)
    """
    ours = (seed for seed in count() if split_of(name_of(environment, seed)) == "test")
    return tuple(islice(ours, n))


def name_of(environment: EnvironmentConfig, seed: int) -> str:
    """Return the name of the task that a seed is in an environment."""
    return task_id(environment.name, environment.level, seed)


def build_panel(
    labels: Iterable[LabelledMoment], n_per_quadrant: int, *, share: float = PANEL_SHARE
) -> Panel:
    """Choose failure states of the panel split, `n_per_quadrant` of each quadrant or fewer.

    The order, and so the choice, is that of the SHA-256 of the snapshots' ids: the same in every
    process, and unchanged for a quadrant when other quadrants gain rows.

    Args:
        share: of all tasks; smaller than the panel split keeps a part of it.

    Raises:
        ConfigError: a share beyond the panel split, which would reach into trained tasks.
    """
    if not 0 < share <= PANEL_SHARE:
        raise ConfigError(
            f"holdout_frac {share:g}: splits are fixed by the task's hash before labelling and "
            f"the panel holds {PANEL_SHARE:g} of all tasks; give a fraction above 0, at most "
            f"{PANEL_SHARE:g}"
        )
    ours = [each for each in labels if each.moment.split == "panel" and _within(each, share)]
    chosen = {
        name: sorted((each for each in ours if each.quadrant == name), key=_rank)[:n_per_quadrant]
        for name in QUADRANTS
    }
    return Panel(
        moments=tuple(each for name in QUADRANTS for each in chosen[name]),
        counts={name: len(rows) for name, rows in chosen.items()},
        asked=n_per_quadrant,
    )


def panel_from_file(path: Path, labels: Sequence[LabelledMoment]) -> Panel:
    """Take the panel that a file lists, in the file's order within each quadrant.

    Accepts a list of ids, a list of objects with `snapshot_id` or `id`, or an object that holds
    such a list under `panel`, `tasks`, `snapshots`, `items` or `data`.

    Raises:
        DataError: an id is not labelled, has no quadrant, comes twice, or is of a task of
            another split than the panel's.
    """
    by_id = {each.id: each for each in labels}
    found: list[LabelledMoment] = []
    for number, name in enumerate(panel_ids(path), start=1):
        label = by_id.get(name)
        if label is None:
            raise DataError(
                f"{path}: entry {number}: no labelled snapshot '{name}'; "
                f"{did_you_mean(name, sorted(by_id)[:20])}"
            )
        if label.quadrant == "UNASSIGNED":
            raise DataError(
                f"{path}: entry {number}: snapshot {name} has no quadrant; assign quadrants with "
                "cupel teach quadrants"
            )
        if label in found:
            raise DataError(f"{path}: entry {number}: snapshot {name} again; list it once")
        found.append(label)
    refuse_leaks((each.moment.task_id for each in found), "panel", where=str(path))
    groups = {name: [each for each in found if each.quadrant == name] for name in QUADRANTS}
    return Panel(
        moments=tuple(each for name in QUADRANTS for each in groups[name]),
        counts={name: len(rows) for name, rows in groups.items()},
        asked=0,
    )


def panel_rows(panel: Panel) -> list[dict[str, Any]]:
    """Return the rows of snapshot_panel.json."""
    return [
        {
            "snapshot_id": each.id,
            "quadrant": each.quadrant,
            "task_id": each.moment.task_id,
            "step_idx": each.moment.step_idx,
        }
        for each in panel.moments
    ]


def refuse_trained(
    tasks: Sequence[int],
    panel: Panel,
    *,
    environment: EnvironmentConfig,
    trained: Mapping[str, str],
) -> None:
    """Refuse an evaluation on what was trained on, whatever the splits say.

    Args:
        trained: task by id of the snapshots that some model was trained on.

    Raises:
        DataError: names the first snapshot or task, and how many there are.
    """
    refuse_leaks((name_of(environment, seed) for seed in tasks), "test", where="evaluation tasks")
    refuse_leaks((each.moment.task_id for each in panel.moments), "panel", where="failure panel")
    judged = {name_of(environment, seed) for seed in tasks}
    judged |= {each.moment.task_id for each in panel.moments}
    leaked = sorted(snapshot for snapshot, task in trained.items() if task in judged)
    if leaked:
        raise DataError(
            f"evaluation: {len(leaked)} snapshots that were trained on are of tasks that are "
            f"evaluated, the first {leaked[0]} (task {trained[leaked[0]]}); such a model cannot be "
            "judged here. Train it again on the train split alone"
        )


def _rank(label: LabelledMoment) -> str:
    return hashlib.sha256(f"panel/{label.id}".encode()).hexdigest()


def _within(label: LabelledMoment, share: float) -> bool:
    digest = hashlib.sha256(f"holdout/{label.moment.task_id}".encode()).hexdigest()
    return int(digest[:13], 16) / 2.0**52 < share / PANEL_SHARE


def panel_ids(path: Path) -> list[str]:
    """Return the snapshot ids that a panel file lists, in its order; forms as `panel_from_file`.

    Raises:
        DataError: the file is missing or malformed, or an entry has no id.
    """
    try:
        content = json.loads(read_lines(path))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; give a list of snapshot ids") from None
    if isinstance(content, dict):
        lists = [content[name] for name in _CONTAINERS if isinstance(content.get(name), list)]
        content = lists[0] if lists else None
    if not isinstance(content, list) or not content:
        raise DataError(
            f"{path}: expected a list of snapshot ids, or an object with one under "
            f"{', '.join(_CONTAINERS)}"
        )
    return [_id(path, number, entry) for number, entry in enumerate(content, start=1)]


def _id(path: Path, number: int, entry: Any) -> str:
    if isinstance(entry, Mapping):
        entry = next((entry[key] for key in _ID_KEYS if key in entry), None)
    if not isinstance(entry, str):
        raise DataError(
            f"{path}: entry {number}: no snapshot id; expected a string, or an object with "
            f"{' or '.join(_ID_KEYS)}"
        )
    return entry
