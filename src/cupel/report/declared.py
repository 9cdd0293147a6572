"""What the keys of a study mean, as its recipe declared them when the study was planned.

Pure. Reads the `metrics` of a manifest, so that a study is shown without the recipe that made it;
a key without a declaration gets the unit that the suffix of its name says. Refuses to guess which
direction is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cupel.report.view import unit_of

_STREAMS = {"metrics.jsonl": "", "evaluations.jsonl": "eval/"}
_SHOWN = {"nats^2": "nats²", "count": "", "flag": "", "1": "", "reward": "", "loss": ""}
"""Units whose name would say nothing beside the number, or that are written otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a recipe says of one key."""

    unit: str
    meaning: str = ""
    higher_is_better: bool | None = None
    limits: tuple[float | None, float | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """The declared keys of a study; `eval/<key>` for those of its evaluations."""

    by_key: Mapping[str, Declaration]

    def __contains__(self, key: str) -> bool:
        return key in self.by_key

    def __bool__(self) -> bool:
        return bool(self.by_key)

    def unit(self, key: str) -> str:
        """Return the unit a value of a key is shown in."""
        declared = self.by_key.get(key)
        if declared is None:
            return unit_of(key)
        return _SHOWN.get(declared.unit, declared.unit)

    def meaning(self, key: str) -> str:
        """Return what a key means, or nothing."""
        declared = self.by_key.get(key)
        return declared.meaning if declared is not None else ""

    def better(self) -> list[str]:
        """Return the keys of which more is better, in their order."""
        return [key for key, each in self.by_key.items() if each.higher_is_better]


def read_declarations(manifest: Mapping[str, Any]) -> Declarations:
    """Return what a manifest says of the study's metrics; empty for one of an earlier version."""
    found: dict[str, Declaration] = {}
    streams = manifest.get("metrics")
    if not isinstance(streams, Mapping):
        return Declarations(by_key=found)
    for stream, prefix in _STREAMS.items():
        for entry in streams.get(stream) or ():
            limits = entry.get("limits")
            found[prefix + str(entry["name"])] = Declaration(
                unit=str(entry.get("unit", "")),
                meaning=str(entry.get("meaning", "")),
                higher_is_better=entry.get("higher_is_better"),
                limits=(limits[0], limits[1]) if limits else None,
            )
    return Declarations(by_key=found)
