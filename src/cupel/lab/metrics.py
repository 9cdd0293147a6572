"""Declared metrics: the keys a recipe may write, what they mean, and when a value is unhealthy.

Pure. Knows names, units and limits; refuses to know where values come from or go.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from cupel.config import did_you_mean
from cupel.errors import AlgorithmicFailure, ConfigError

T = TypeVar("T")
Scalar = float | int | bool | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One declared key of a stream of rows.

    Attributes:
        name: the key in the row, e.g. `correct_rate`; `pass@k` declares `pass@1`, `pass@8`, ...
        meaning: one sentence a reader of the docs sees.
        unit: `rate` in [0, 1], `nats`, `tokens`, `s`, `count`, `text`, ... never percent.
        higher_is_better: direction, or None where there is none.
        tracker_name: the name under which trackers show it, e.g. `train/rewards/correct_rate`.
        reproducible: False for timings and whatever depends on the machine.
        limits: closed interval outside of which the run has failed; None = unbounded.
    """

    name: str
    meaning: str
    unit: str
    higher_is_better: bool | None = None
    tracker_name: str | None = None
    reproducible: bool = True
    limits: tuple[float, float] | None = None


class MetricSet:
    """The declared metrics of one stream, by name."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._by_name = {metric.name: metric for metric in metrics}
        self._places = {name: place for place, name in enumerate(self._by_name)}

    def __getitem__(self, name: str) -> Metric:
        try:
            return self._by_name[self._declared(name)]
        except KeyError:
            raise ConfigError(
                f"metric '{name}' is not declared; {did_you_mean(name, self.names)}"
            ) from None

    @property
    def names(self) -> Sequence[str]:
        """Declared names in order."""
        return tuple(self._by_name)

    def in_order(self, row: Mapping[str, T]) -> dict[str, T]:
        """Return a row of declared keys in the order of their declaration, `pass@1` before 8."""
        order = sorted(row, key=lambda name: (self._places[self._declared(name)], len(name), name))
        return {name: row[name] for name in order}

    def check(self, row: Mapping[str, Scalar], *, where: str) -> None:
        """Check a row's keys, finiteness and health limits.

        None is a missing value and always allowed.

        Raises:
            ConfigError: an undeclared key (a bug in the recipe).
            AlgorithmicFailure: a value is not finite or outside its limits.
        """
        for name, value in row.items():
            metric = self[name]
            if value is None or isinstance(value, str | bool):
                continue
            if not math.isfinite(value):
                raise AlgorithmicFailure(f"{where}: {name} is {value}")
            if metric.limits is not None:
                low, high = metric.limits
                if not low <= value <= high:
                    raise AlgorithmicFailure(
                        f"{where}: {name} = {value:g} is outside its health limits "
                        f"[{low:g}, {high:g}]"
                    )

    def _declared(self, name: str) -> str:
        """Return the name under which a key was declared: `pass@k` for `pass@8`."""
        return name if name in self._by_name else re.sub(r"@[1-9][0-9]*$", "@k", name)


RunStatus = Literal["planned", "running", "done", "failed"]
FailureKind = Literal["algorithmic", "gate", "infrastructure", "usage", "error"]
