"""What a row's keys are called in a tracker, and which of them depend on the machine.

Knows the declared metrics of the recipes. Refuses to drop a number: what has no declared name
keeps its own. What is missing stays missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cupel.lab.metrics import Metric
from cupel.report.trackers.protocol import Value

_NOT_VALUES = ("step", "condition", "seed")


@dataclass(frozen=True, slots=True)
class Names:
    """Tracker names and machine keys of one stream of rows.

    Attributes:
        shown: tracker name by key, for declared names that differ from the key.
        machine: keys whose values differ from one execution of a run to the next.
        prefix: put before every key without a declared name, `eval/` for evaluations.
    """

    shown: Mapping[str, str]
    machine: frozenset[str]
    prefix: str = ""

    def values(self, row: Mapping[str, Any]) -> dict[str, Value]:
        """Return what a tracker shows of a row: numbers, truths and words, by tracker name."""
        shown, prefix = self.shown, self.prefix
        return {
            shown.get(key) or prefix + key: value
            for key, value in row.items()
            if isinstance(value, float | int | str)
        }

    def reproducible(self, row: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return the part of a row that a resumed run writes again, byte for byte."""
        return [(key, value) for key, value in row.items() if key not in self.machine]


def names_of(recipe: str | None) -> Names:
    """Return the names for metrics.jsonl of a recipe; None is a folder of an earlier system."""
    match recipe:
        case "rlvr.train" | None:
            from cupel.rlvr.metrics import METRICS

            return _declared(METRICS)
        case "arc.train":
            from cupel.arc.metrics import METRICS as ARC_METRICS

            return _declared(ARC_METRICS)
        case _:
            return _declared(())


def evaluation_names(recipe: str | None) -> Names | None:
    """Return the names for evaluations.jsonl; None where its rows do not come before their step's.

    `rlvr.train` evaluates before the step of the same number, so an evaluation can ride on that
    step's row.
    """
    if recipe != "rlvr.train":
        return None
    from cupel.rlvr.metrics import EVALUATIONS

    return _declared(EVALUATIONS, prefix="eval/")


def evaluated(names: Names, row: Mapping[str, Any]) -> dict[str, Value]:
    """Return what a tracker shows of an evaluation, without what its step's row says already."""
    return names.values({key: row[key] for key in row if key not in _NOT_VALUES})


def _declared(metrics: Sequence[Metric], *, prefix: str = "") -> Names:
    return Names(
        shown={metric.name: metric.tracker_name for metric in metrics if metric.tracker_name},
        machine=frozenset(metric.name for metric in metrics if not metric.reproducible),
        prefix=prefix,
    )
