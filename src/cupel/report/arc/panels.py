"""What the figures of trainings on ARC show: panels, the keys in them, and how each is drawn.

Pure data. Refuses to know matplotlib and runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cupel.arc.gates import GENERALISE, OVERFIT
from cupel.arc.metrics import AGES
from cupel.report.palette import LIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A key as it is drawn.

    Attributes:
        evaluated: it is of evaluations.jsonl: points at evaluations, joined.
        limits: band: its interval is shown everywhere; last: at the last evaluation.
        from_age: only runs of at least so many halt_max_steps can have it.
    """

    key: str
    name: str
    colour: str
    evaluated: bool = False
    marker: str = "o"
    dash: str = "-"
    limits: Literal["", "band", "last"] = ""
    from_age: int = 0

    @property
    def stream(self) -> str:
        """The stream of a run that it is read from."""
        return "evaluations.jsonl" if self.evaluated else "metrics.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One row of a figure.

    Attributes:
        guide: a height to be marked, and its name.
        zones: topic of `cupel.arc.health` whose zones are shaded and whose checks are marked.
        optional: left out where no run measured any of its lines.
    """

    title: str
    lines: tuple[Line, ...]
    scale: Literal["rate", "gain", "log", "count"]
    guide: tuple[float, str] | None = None
    zones: Literal["", "gradient", "contexts"] = ""
    optional: bool = False


_EVALUATED: Mapping[str, Any] = {"evaluated": True, "limits": "band"}
_AGE_STYLES = (
    (LIGHT[4], "o"), (LIGHT[1], "s"), (LIGHT[3], "^"), (LIGHT[0], "D"), (LIGHT[2], "v"),
    (LIGHT[6], "P"),
)  # fmt: skip
LEARNING = (
    Panel(
        title="right (%)",
        lines=(
            Line(key="train/accuracy", name="cells: train/accuracy", colour=LIGHT[5], dash=":"),
            Line(key="train/exact_accuracy", name="train/exact_accuracy\n(slots of every age)",
                 colour=LIGHT[4], dash="--"),
            Line(key="em_at_halt", name="em_at_halt, train_probe\n(95 % Wilson over puzzles)",
                 colour=LIGHT[0], **_EVALUATED),
        ),
        scale="rate",
        guide=(OVERFIT, "criterion 1"),
    ),
    Panel(
        title="context_gain (pp)",
        lines=(
            Line(key="context_gain", name="true less swapped\ndemonstrations (95 %)",
                 colour=LIGHT[2], **_EVALUATED),
        ),
        scale="gain",
        guide=(0.0, ""),
    ),
    Panel(
        title="held out: right (%)",
        lines=(
            Line(key="heldout_em_at_halt",
                 name="heldout_em_at_halt,\none answer\n(95 % Wilson over puzzles)",
                 colour=LIGHT[1], marker="s", **_EVALUATED),
        ),
        scale="rate",
        guide=(GENERALISE, "criterion 2"),
        optional=True,
    ),
)  # fmt: skip
HALTING = (
    Panel(
        title="steps_at_halt",
        lines=(
            Line(key="steps_at_halt", name="items that left", colour=LIGHT[5]),
            Line(key="steps_at_halt", name="train_probe", colour=LIGHT[0], evaluated=True),
        ),
        scale="count",
    ),
    Panel(
        title="forced_fraction (%)",
        lines=(
            Line(key="forced_fraction", name="items that left", colour=LIGHT[5]),
            Line(key="forced_fraction", name="train_probe", colour=LIGHT[0], evaluated=True),
        ),
        scale="rate",
    ),
    Panel(
        title="train_probe: exact match\nafter so many steps (%)",
        lines=tuple(
            Line(key=f"em_at_{age}", name=f"em_at_{age}", colour=colour, marker=marker,
                 evaluated=True, limits="last", from_age=age)
            for age, (colour, marker) in zip(AGES, _AGE_STYLES, strict=True)
        ),
        scale="rate",
    ),
    Panel(
        title="halt head, at halt",
        lines=(
            Line(key="q_calibration_error", name="q_calibration_error", colour=LIGHT[1]),
            Line(key="q_brier", name="q_brier", colour=LIGHT[6], dash="--"),
        ),
        scale="count",
    ),
)  # fmt: skip
HEALTH = (
    Panel(
        title="grad/encoder_norm",
        lines=(Line(key="grad/encoder_norm", name="encoder", colour=LIGHT[0]),),
        scale="log",
        zones="gradient",
    ),
    Panel(
        title="train/encoder_\ncross_sample_var",
        lines=(
            Line(key="train/encoder_cross_sample_var", name="between slots", colour=LIGHT[3]),
        ),
        scale="log",
        zones="contexts",
    ),
    Panel(
        title="between_task_share (%)",
        lines=(
            Line(key="between_task_share", name="of the context's\nvariance, train_probe",
                 colour=LIGHT[2], evaluated=True),
        ),
        scale="rate",
    ),
    Panel(
        title="update / weights",
        lines=(
            Line(key="update/encoder_ratio", name="update/encoder_ratio", colour=LIGHT[0]),
            Line(key="update/inner_ratio", name="update/inner_ratio", colour=LIGHT[4], dash="--"),
        ),
        scale="log",
    ),
)  # fmt: skip
FIGURES: Mapping[str, tuple[Panel, ...]] = {
    "learning": LEARNING,
    "halting": HALTING,
    "encoder_health": HEALTH,
}
