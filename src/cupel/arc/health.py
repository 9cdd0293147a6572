"""Is a run healthy? Declared zones, checked early, and said in words.

Pure. Knows rows of metrics.jsonl and the limits they are held against. Refuses to know tensors
and files, and to call healthy what was not measured. The zones are those of the ETRM project; they
are about the reduced gradient before clipping, and about contexts of RMS 1 (`context_scale =
"matched"`): for a context of another scale its variance says little, so it is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from cupel.config import Config

Level = Literal["ok", "warn", "stop"]
_ORDER: Mapping[Level, int] = {"ok": 0, "warn": 1, "stop": 2}

CHECK_AT = (10, 100, 500)
"""Updates after which a run is checked and the finding is noted in its record."""

KEPT = (
    "step",
    "grad/encoder_norm",
    "grad/total_norm",
    "train/encoder_cross_sample_var",
    "train/exact_accuracy",
    "train/accuracy",
    "train/encoder_frozen",
    "steps_at_halt",
    "forced_fraction",
    "gradient_coverage",
    "grad/clip_rate",
)
"""Keys of a row that the check reads."""


class HealthLimits(Config):
    """Limits of the zones."""

    encoder_norm_ok: float = Field(default=0.2, ge=0)
    """grad/encoder_norm above this is healthy."""
    encoder_norm_starved: float = Field(default=0.05, ge=0)
    """Below this the encoder is starved of gradient; if it stays there, the run is lost."""
    encoder_share_low: float = Field(default=0.1, ge=0, le=1)
    """grad/encoder_norm over grad/total_norm below this is a warning."""
    variance_ok: float = Field(default=0.3, ge=0)
    """train/encoder_cross_sample_var above this is healthy."""
    variance_low: float = Field(default=0.1, ge=0)
    """Below this contexts of different puzzles are nearly alike."""
    variance_collapsed: float = Field(default=0.05, ge=0)
    """Below this the encoder has collapsed."""
    stuck_steps: int = Field(default=300, ge=1)
    """Updates without a new best train/exact_accuracy after which the run is stuck."""
    stuck_below: float = Field(default=0.9, ge=0, le=1)
    """Exact accuracy from which no further gain is asked."""
    early_steps: int = Field(default=500, ge=1)
    """Updates in which the rules may end a run."""
    patience_steps: int = Field(default=100, ge=1)
    """Updates for which a value must stay in its worst zone before the run is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One judgement, with the number it rests on.

    Attributes:
        topic: a word for it, e.g. `gradient`.
        words: one sentence: what was seen, what is wanted, what to do.
    """

    topic: str
    level: Level
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """All findings about a run up to a step; `level` is the worst of them."""

    step: int
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst level found."""
        return max((each.level for each in self.findings), key=_ORDER.__getitem__, default="ok")

    @property
    def reason(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        return "; ".join(f.words for f in self.findings if f.level == self.level != "ok")

    def text(self) -> str:
        """Return every finding on a line."""
        return "\n".join(f"{each.level:<5} {each.topic}: {each.words}" for each in self.findings)


def assess(
    rows: Sequence[Mapping[str, Any]],
    limits: HealthLimits,
    *,
    halt_max_steps: int,
    matched_scale: bool = True,
) -> Health:
    """Judge the rows of metrics.jsonl seen so far, oldest first.

    Args:
        matched_scale: the context has RMS 1, so that its variance can be judged.
    """
    if not rows:
        finding = Finding(topic="record", level="warn", words="no row has been written yet")
        return Health(step=0, findings=(finding,))
    findings = (
        _gradient(rows, limits),
        _variance(rows, limits, matched_scale=matched_scale),
        _progress(rows, limits),
        _halting(rows[-1], halt_max_steps),
        _coverage(rows[-1]),
    )
    step = int(rows[-1]["step"])
    return Health(step=step, findings=tuple(each for each in findings if each is not None))


def must_stop(health: Health, limits: HealthLimits) -> bool:
    """Say whether the rules end the run: a lost run, early enough for the rules to apply."""
    return health.level == "stop" and health.step <= limits.early_steps


def _gradient(rows: Sequence[Mapping[str, Any]], limits: HealthLimits) -> Finding:
    values = _series(rows, "grad/encoder_norm")
    if not values or rows[-1].get("train/encoder_frozen"):
        why = "the encoder is frozen" if values else "it was not measured"
        return Finding(topic="gradient", level="ok", words=f"grad/encoder_norm: {why}")
    now, total = values[-1][1], rows[-1].get("grad/total_norm")
    share = f", {now / total:.0%} of the whole gradient" if total else ""
    said = f"grad/encoder_norm is {now:.3g}{share}"
    if now < limits.encoder_norm_starved:
        lost = _stays(values, limits.encoder_norm_starved, limits.patience_steps)
        return Finding(
            topic="gradient",
            level="stop" if lost else "warn",
            words=f"{said}: the encoder is starved (below {limits.encoder_norm_starved:g}"
            f"{f' for {limits.patience_steps} updates' if lost else ''}). Look for a context that "
            "is detached, frozen or drowned by the tokens",
        )
    low_share = total is not None and total > 0 and now / total < limits.encoder_share_low
    if now < limits.encoder_norm_ok or low_share:
        wanted = f"above {limits.encoder_norm_ok:g} and {limits.encoder_share_low:.0%} is wanted"
        return Finding(topic="gradient", level="warn", words=f"{said}; {wanted}")
    return Finding(topic="gradient", level="ok", words=said)


def _variance(
    rows: Sequence[Mapping[str, Any]], limits: HealthLimits, *, matched_scale: bool
) -> Finding:
    values = _series(rows, "train/encoder_cross_sample_var")
    if not values:
        return Finding(topic="contexts", level="ok", words="their variance was not measured")
    now = values[-1][1]
    said = f"train/encoder_cross_sample_var is {now:.3g}"
    if not matched_scale:
        return Finding(topic="contexts", level="ok", words=f"{said}; not judged at a raw scale")
    if now < limits.variance_collapsed:
        lost = _stays(values, limits.variance_collapsed, limits.patience_steps)
        return Finding(
            topic="contexts",
            level="stop" if lost else "warn",
            words=f"{said}: the encoder has collapsed, all puzzles get the same context "
            f"(below {limits.variance_collapsed:g}). Try another encoder or a lower lr",
        )
    if now < limits.variance_ok:
        zone = "nearly alike" if now < limits.variance_low else "of limited diversity"
        words = f"{said}: contexts are {zone}; above {limits.variance_ok:g} is wanted"
        return Finding(topic="contexts", level="warn", words=words)
    return Finding(topic="contexts", level="ok", words=said)


def _progress(rows: Sequence[Mapping[str, Any]], limits: HealthLimits) -> Finding | None:
    values = _series(rows, "train/exact_accuracy")
    if not values:
        return None
    best_step, best = values[0]
    for step, value in values:
        if value > best:
            best_step, best = step, value
    idle = values[-1][0] - best_step
    said = f"train/exact_accuracy is {values[-1][1]:.3f}, best {best:.3f} at step {best_step}"
    if idle >= limits.stuck_steps and best < limits.stuck_below:
        words = f"{said}: no gain for {idle} updates. Check lr, clipping and the data"
        return Finding(topic="progress", level="stop", words=words)
    return Finding(topic="progress", level="ok", words=said)


def _halting(row: Mapping[str, Any], halt_max_steps: int) -> Finding | None:
    steps, forced = row.get("steps_at_halt"), row.get("forced_fraction")
    if steps is None or forced is None:
        return None
    said = f"items halt after {steps:.1f} of {halt_max_steps} steps, {forced:.0%} by force"
    if forced == 1.0 and halt_max_steps > 1:
        words = f"{said}: the model never holds an answer to be right"
        return Finding(topic="halting", level="warn", words=words)
    return Finding(topic="halting", level="ok", words=said)


def _coverage(row: Mapping[str, Any]) -> Finding | None:
    coverage = row.get("gradient_coverage")
    if coverage is None:
        return None
    said = f"{coverage:.0%} of slots give the encoder a gradient"
    level: Level = "ok" if coverage > 0.99 else "warn"
    return Finding(topic="coverage", level=level, words=said)


def _series(rows: Iterable[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]


def _stays(values: Sequence[tuple[int, float]], limit: float, patience: int) -> bool:
    """Say whether the values have been under the limit for `patience` updates."""
    last = values[-1][0]
    under_since = last
    for step, value in reversed(values):
        if value >= limit:
            break
        under_since = step
    return last - under_since >= patience
