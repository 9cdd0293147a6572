"""Back pressure: which concurrency to use next, from the throughput of the steps so far.

Pure. A controller is a frozen value: `level` says the concurrency to use, `observe` takes what a
step showed and returns the controller of the next step. Refuses to know what is run side by side,
and to count rewards: a step whose answers were all wrong is as good a measurement as any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from cupel.errors import DataError, PlanError
from cupel.rlvr.scaling_law import LEAST_DISTINCT, ScalingFit, fit_scaling

if TYPE_CHECKING:
    from cupel.rlvr.config import TrainConfig

Regime = Literal["warmup", "optimal", "retrograde", "memory_bound", "compute_bound"]
Action = Literal["sweep", "hold", "throttle", "increase"]
Setting = Literal["sample_rows", "microbatch_tokens", "batch_size"]

REGIMES: tuple[Regime, ...] = get_args(Regime)
SWEEP_DEPTH = 16
"""How far below its ceiling a token budget is tried."""
_STATE = ("held", "observations")
_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Throughput of one step at one concurrency."""

    step: int
    p: int
    throughput: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a step's row says of back pressure; None is missing."""

    regime: Regime
    action: Action
    concurrency: int
    throughput: float | None
    warmup: bool
    p_star: float | None = None
    sigma: float | None = None
    kappa: float | None = None
    utilization: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackPressure:
    """The controller: what may be tried, what was seen, and what is held.

    Attributes:
        setting: what is changed.
        levels: concurrencies of a sweep, ascending; the last is the ceiling.
        quantum: concurrency comes in whole multiples of this (a group's completions).
        per_level: observations of every level within the window before a fit is used.
        window: steps after which an observation is forgotten.
        throttle_margin: share of p* to aim at.
        increase_margin: share of that aim under which concurrency is raised.
        roofline: concurrency from which arithmetic outlasts reading the weights once, from the
            machine's declared peaks; None: read off the fitted curve.
        held: the concurrency in use outside of sweeps; None before the first fit.
        cold: the next step still pays for first use and is not observed.
    """

    setting: Setting
    levels: tuple[int, ...]
    quantum: int
    per_level: int
    window: int
    throttle_margin: float
    increase_margin: float
    roofline: float | None = None
    observations: tuple[Observation, ...] = ()
    held: int | None = None
    cold: bool = True
    fit: ScalingFit | None = None

    @classmethod
    def from_config(cls, config: TrainConfig) -> BackPressure | None:
        """Return the controller at the start of a run, None where back pressure is off.

        Raises:
            PlanError: fewer than three concurrencies lie between the least and the ceiling.
        """
        chosen = config.backpressure
        if not chosen.enabled:
            return None
        setting, quantum, levels = _ladder(config)
        if len(levels) < LEAST_DISTINCT:
            raise PlanError(
                f"backpressure: {setting} can only be {_words(levels)}, and a fit needs at least "
                f"{LEAST_DISTINCT} values; raise batch_size or the ceiling, or leave back "
                "pressure off"
            )
        return cls(
            setting=setting,
            levels=levels,
            quantum=quantum,
            per_level=max(1, chosen.warmup_steps // len(levels)),
            window=chosen.window,
            throttle_margin=chosen.throttle_margin,
            increase_margin=chosen.increase_margin,
            roofline=machine_balance(
                chosen.peak_gflops, chosen.peak_gb_per_s, _BYTES[config.policy.dtype]
            ),
        )

    @property
    def level(self) -> int:
        """Concurrency of the coming step: what is held, or the level seen least."""
        missing = self._unseen()
        if missing is not None:
            return missing
        assert self.held is not None  # set by the observation that completed the sweep
        return self.held

    @property
    def value(self) -> int:
        """The setting's value at `level`: problems for batch_size, else the level itself."""
        return self.level // self.quantum if self.setting == "batch_size" else self.level

    def observe(self, step: int, throughput: float) -> BackPressure:
        """Return the controller of the next step. Call once a step, after it used `level`.

        Args:
            throughput: work done a second, e.g. sampled tokens; 0 where nothing was done, which
                is no observation.
        """
        if self.cold or throughput <= 0:
            return replace(self, cold=False)
        seen = Observation(step=step, p=self.level, throughput=throughput)
        recent = (*(o for o in self.observations if o.step > step - self.window), seen)
        return replace(self, observations=recent)._refitted()

    def reading(self, used: int, throughput: float) -> Reading:
        """Return the row of a step that ran at concurrency `used`, seen from after it."""
        row = Reading(
            regime="warmup",
            action="sweep",
            concurrency=used,
            throughput=throughput if throughput > 0 else None,
            warmup=True,
        )
        if self.fit is None or self.held is None or self._unseen() is not None:
            return row
        best = self.fit.best
        return replace(
            row,
            regime=regime_of(
                self.fit,
                used,
                margin=self.throttle_margin * self.increase_margin,
                balance=self.roofline,
            ),
            action=_action(used, self.held),
            warmup=False,
            p_star=self.fit.peak,
            sigma=self.fit.sigma,
            kappa=self.fit.kappa,
            utilization=None if best is None else min(1.0, self.fit.throughput(used) / best),
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold, as plain JSON values."""
        seen = [[o.step, o.p, o.throughput] for o in self.observations]
        return {"held": self.held, "observations": seen}

    def restore(self, state: Mapping[str, Any]) -> BackPressure:
        """Return the controller with the state that `state` returned.

        Raises:
            DataError: the state lacks a key or holds another one.
        """
        if set(state) != set(_STATE):
            raise DataError(
                f"back pressure: saved state holds {sorted(state)}, expected {sorted(_STATE)}; "
                "resume with the version that wrote it"
            )
        seen = tuple(Observation(step=s, p=p, throughput=x) for s, p, x in state["observations"])
        opened = replace(self, observations=seen, held=state["held"], cold=True)
        return replace(opened, fit=opened._fitted())

    def _unseen(self) -> int | None:
        """Return the level that was observed least, None once each was observed enough."""
        counts = Counter(o.p for o in self.observations)
        least = min(self.levels, key=lambda level: counts[level])
        return least if counts[least] < self.per_level else None

    def _fitted(self) -> ScalingFit | None:
        if len({o.p for o in self.observations}) < LEAST_DISTINCT:
            return None
        return fit_scaling(
            [o.p for o in self.observations], [o.throughput for o in self.observations]
        )

    def _refitted(self) -> BackPressure:
        """Refit; move what is held once every level was seen and the margins say so."""
        if self._unseen() is not None:
            return self
        fit = self._fitted()
        assert fit is not None  # every level was seen, and there are at least three
        aim, held = self._aim(fit), self.held
        past = held is not None and fit.peak is not None and held > fit.peak
        if held is None or past or held < self.increase_margin * aim:
            held = aim
        return replace(self, fit=fit, held=held)

    def _aim(self, fit: ScalingFit) -> int:
        """Return the concurrency to aim at, in whole multiples and within the ladder."""
        low, high = self.levels[0], self.levels[-1]
        if fit.peak is None:
            return high
        wanted = int(min(self.throttle_margin * fit.peak, high))
        return max(low, wanted // self.quantum * self.quantum)


def regime_of(fit: ScalingFit, p: float, *, margin: float, balance: float | None = None) -> Regime:
    """Say where on its curve the machine works.

    retrograde: past the peak, where more side by side is slower. optimal: from `margin` of the
    peak up to it. Below that, or on a curve without a peak, what a pass spends its time on:
    memory_bound under the balance point (fixed cost, such as reading the weights, so more side by
    side is nearly free), compute_bound from there on.

    Args:
        balance: concurrency of the balance point, from the machine's peaks; None: the fit's own.
    """
    if fit.peak is not None and p > fit.peak:
        return "retrograde"
    if fit.peak is not None and p >= margin * fit.peak:
        return "optimal"
    point = fit.balance if balance is None else balance
    return "memory_bound" if point is None or p < point else "compute_bound"


def machine_balance(gflops: float, gb_per_s: float, weight_bytes: int) -> float | None:
    """Return the rows (or tokens) a pass at which arithmetic takes as long as reading the weights.

    A pass over p tokens does 2 p FLOP a weight and reads `weight_bytes` of it once; the two take
    equally long at p = (weight_bytes / 2) * (FLOP/s) / (byte/s). None where a peak is not declared.

    Source: S. Williams, A. Waterman, D. Patterson, Roofline, CACM 52(4), 2009.

    >>> machine_balance(100.0, 20.0, 4)
    10.0
    """
    if gflops <= 0 or gb_per_s <= 0:
        return None
    return weight_bytes / 2 * gflops / gb_per_s


def update_work(sampled_tokens: int, trained_tokens: int) -> int:
    """Return the work of scoring and updating, in forward passes of a token.

    Every sampled token is scored once; a backward pass costs two forward passes. Counting trained
    tokens alone would make a batch without mixed groups look like slow hardware.
    """
    return sampled_tokens + 2 * trained_tokens


def _action(used: int, following: int) -> Action:
    if following == used:
        return "hold"
    return "throttle" if following < used else "increase"


def _ladder(config: TrainConfig) -> tuple[Setting, int, tuple[int, ...]]:
    """Return the setting, its quantum and the concurrencies to try."""
    chosen, group = config.backpressure, config.group_size
    if chosen.changes == "batch_size":
        sizes = _doubling(chosen.min_batch_size, chosen.max_batch_size)
        return "batch_size", group, tuple(size * group for size in sizes)
    if chosen.stage == "update":
        high = chosen.max_concurrency or config.policy.microbatch_tokens
        return "microbatch_tokens", 1, _doubling(max(1, high // SWEEP_DEPTH), high)
    rows = config.batch_size * group
    groups = min(chosen.max_concurrency or config.policy.sample_rows, rows) // group
    return "sample_rows", group, tuple(n * group for n in _doubling(1, max(1, groups)))


def _doubling(low: int, high: int) -> tuple[int, ...]:
    levels = [low]
    while levels[-1] * 2 < high:
        levels.append(levels[-1] * 2)
    return tuple(levels) if levels[-1] >= high else (*levels, high)


def _words(levels: Sequence[int]) -> str:
    return " or ".join(str(level) for level in levels)
