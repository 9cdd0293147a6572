"""Which tasks and which failure states every model is evaluated on: chosen once, by hash.

Knows the splits of tasks. Refuses to fall back on what was trained on, and to depend on the
order of files or on a process's salted hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.evaluation import Panel
from cupel.teach.labels import LabelledMoment


def evaluation_tasks(environment: EnvironmentConfig, n: int) -> tuple[int, ...]:
    """Return the first `n` seeds whose tasks are of the test split."""
    raise NotImplementedError


def build_panel(labels: Iterable[LabelledMoment], n_per_quadrant: int) -> Panel:
    """Choose failure states of the panel split, `n_per_quadrant` of each quadrant or fewer."""
    raise NotImplementedError


def refuse_trained(
    tasks: Sequence[int], panel: Panel, *, environment: EnvironmentConfig, trained: Iterable[str]
) -> None:
    """Refuse an evaluation on tasks of the snapshots that a model was trained on."""
    raise NotImplementedError
