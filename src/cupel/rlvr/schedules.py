"""What changes from step to step: the learning rate, and how strongly SEPA pools.

Pure. The rate is a function of the step alone, so that a resumed run has nothing to restore.
SEPA's schedule is a frozen value: `value(step)` says the strength to use and to log, `observe`
takes what the step showed and returns the schedule of the next step. Refuses to know what rate
and lambda are applied to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cupel.errors import AlgorithmicFailure, DataError

if TYPE_CHECKING:
    from cupel.rlvr.config import TrainConfig

VARIANCE_FLOOR = 1e-8
_STATE = ("opened_at", "variance_average", "variance_reference", "observed")


LearningRateShape = Literal["constant", "linear", "cosine"]


def learning_rate(
    step: int,
    *,
    peak: float,
    steps: int,
    shape: LearningRateShape = "constant",
    warmup: int = 0,
    floor: float = 0.0,
) -> float:
    """Return the learning rate of step 0 .. steps - 1.

    peak * (step + 1) / warmup during the warm-up; then peak * (floor + (1 - floor) * f(x)) with
    x = (step - warmup) / (steps - warmup), f(x) = 1, 1 - x or (1 + cos(pi x)) / 2. It reaches
    `peak` and never quite its end, so that no step is without effect.

    Source: cosine: Loshchilov and Hutter, arXiv:1608.03983, eq. 5, without restarts.

    >>> [learning_rate(step, peak=1.0, steps=6, shape="linear", warmup=2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    match shape:
        case "constant":
            return peak
        case "linear":
            left = 1.0 - done
        case "cosine":
            left = 0.5 * (1.0 + math.cos(math.pi * done))
    return peak * (floor + (1.0 - floor) * left)


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a run's step."""
    return learning_rate(
        step,
        peak=config.lr,
        steps=config.max_steps,
        shape=config.lr_schedule,
        warmup=config.lr_warmup_steps,
        floor=config.lr_min_ratio,
    )


def linear_lambda(step: int, *, steps: int, delay: int) -> float:
    """Return clip((step - delay) / steps, 0, 1); with `steps` 0 it is 1 from step `delay` on.

    >>> [linear_lambda(step, steps=4, delay=2) for step in (2, 3, 6, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    if steps == 0:
        return 1.0 if step >= delay else 0.0
    return min(max((step - delay) / steps, 0.0), 1.0)


def lambda_at(step: int, config: TrainConfig) -> float:
    """Return the ramp's lambda at a step, for planning: what an open gate alone would give."""
    return linear_lambda(step, steps=config.sepa_steps, delay=config.sepa_delay_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class SepaSchedule:
    """SEPA's lambda: settings, and the little state that changes from step to step.

    Attributes:
        steps, delay: the ramp.
        auto: whether a fall of the execution variance may raise lambda above the ramp.
        gate: lambda is 0 until one batch reaches this correct rate; <= 0 is always open.
        reanchor: start the ramp where the gate opens instead of jumping to its value there.
        ema_decay, threshold, warmup: constants of the controller, counted in batches.
        opened_at: first step with an open gate, None while it is closed.
        variance_average: moving average of the execution variance, None before the first batch.
        variance_reference: its value after the warm-up, None before.
        observed: batches with an execution variance so far.
    """

    steps: int
    delay: int
    auto: bool = False
    gate: float = 0.1
    reanchor: bool = False
    ema_decay: float = 0.99
    threshold: float = 0.2
    warmup: int = 50
    opened_at: int | None = None
    variance_average: float | None = None
    variance_reference: float | None = None
    observed: int = 0

    @classmethod
    def from_config(cls, config: TrainConfig) -> SepaSchedule:
        """Return the schedule at the start of a run."""
        return cls(
            steps=config.sepa_steps,
            delay=config.sepa_delay_steps,
            auto=config.sepa_schedule == "auto",
            gate=config.sepa_correct_rate_gate,
            reanchor=config.sepa.reanchor,
            ema_decay=config.sepa.ema_decay,
            threshold=config.sepa.threshold,
            warmup=config.sepa.warmup,
        )

    @property
    def gate_open(self) -> bool:
        """Whether pooling is allowed; once open it stays open."""
        return self.gate <= 0 or self.opened_at is not None

    def value(self, step: int) -> float:
        """Return lambda at a step: 0 behind a closed gate, else the ramp or the controller's.

        lambda = max(ramp, 1 - min((V / V_0) / threshold, 1)), the second term under `auto` only
        and only once the reference V_0 is known.
        """
        if not self.gate_open:
            return 0.0
        delay = self.delay
        if self.reanchor and self.opened_at is not None:
            delay = max(delay, self.opened_at)
        ramp = linear_lambda(step, steps=self.steps, delay=delay)
        return max(ramp, self._controlled())

    def observe(
        self, correct_rate: float, execution_variance: float | None, *, step: int
    ) -> SepaSchedule:
        """Return the schedule of the next step. Call once a batch, after the step used `value`.

        Args:
            execution_variance: of the batch's execution uncertainty before pooling; None where
                there was no execution token, which leaves the controller as it is.

        Raises:
            AlgorithmicFailure: an observation is not finite.
        """
        for name, seen in (("correct rate", correct_rate), ("variance", execution_variance)):
            if seen is not None and not math.isfinite(seen):
                raise AlgorithmicFailure(f"SEPA schedule, step {step}: the {name} is {seen}")
        opens = self.opened_at is None and self.gate > 0 and correct_rate >= self.gate
        opened = replace(self, opened_at=step + 1) if opens else self
        return opened if execution_variance is None else opened._averaged(execution_variance)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; floats survive JSON exactly."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: Mapping[str, Any]) -> SepaSchedule:
        """Return this schedule with the state that a checkpoint held.

        Raises:
            DataError: the state has other keys than `state()` writes.
        """
        if set(state) != set(_STATE):
            raise DataError(
                f"SEPA schedule: the checkpoint holds {sorted(state)}, expected {sorted(_STATE)}; "
                "resume with the version that wrote it"
            )
        return replace(self, **dict(state))

    def _controlled(self) -> float:
        if not self.auto or self.variance_reference is None or self.variance_average is None:
            return 0.0
        ratio = self.variance_average / self.variance_reference
        return 1.0 - min(ratio / self.threshold, 1.0)

    def _averaged(self, variance: float) -> SepaSchedule:
        average = variance
        if self.variance_average is not None:
            average = self.ema_decay * self.variance_average + (1 - self.ema_decay) * variance
        observed = self.observed + 1
        reference = self.variance_reference
        if reference is None and observed >= self.warmup:
            reference = max(average, VARIANCE_FLOOR)
        return replace(
            self, variance_average=average, variance_reference=reference, observed=observed
        )
