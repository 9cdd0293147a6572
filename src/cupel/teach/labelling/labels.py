"""What is known of a moment once it is labelled: uncertainty, leverage, patch gains, depth.

Knows the fields and what follows from them by arithmetic. Refuses to know how they were
measured, and to stand in for what was not: an unmeasured label is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cupel.teach.records import Hint, Moment

Quadrant = Literal["Q1_highU_highL", "Q2_highU_lowL", "Q3_lowU_lowL", "Q4_lowU_highL", "UNASSIGNED"]
QUADRANTS: tuple[Quadrant, ...] = (
    "Q1_highU_highL",
    "Q2_highU_lowL",
    "Q3_lowU_lowL",
    "Q4_lowU_highL",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval; `n` rollouts behind it, None where it is exact."""

    value: float
    lo: float
    hi: float
    n: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """How undecided the student is over the valid actions (nats, except `entropy_norm`).

    Attributes:
        entropy: -sum p ln p.
        entropy_norm: entropy / ln(number of actions), in [0, 1]; 0 with one action.
        margin: 1 - (p1 - p2); topk_spread: 1 - (p1 - p_k), k = min(5, A).
        effective_actions: exp(entropy).
    """

    entropy: float
    entropy_norm: float
    margin: float
    topk_spread: float
    effective_actions: float
    n_actions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leverage:
    """What one right action, or all of them, would bring; success probabilities."""

    p_policy: Estimate
    p_force: Estimate
    p_expert: Estimate
    L_local: Estimate
    """p_force - p_policy."""
    L_upper: Estimate
    """p_expert - p_policy."""

    @property
    def gap(self) -> float:
        """L_upper - L_local: what the first action alone does not bring."""
        return self.L_upper.value - self.L_local.value


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchTest:
    """What a note in the prompt brings (the contextual patch test).

    Attributes:
        p_base, p_placebo, p_shuffled: success without a note, with a length-matched neutral note,
            with another task's hint; p: by format (demo, contrast, hint).
        gain_raw: p[m] - p_base; gain_net: p[m] - p_placebo.
        ELP_raw, ELP_net: the largest gain over formats, as the documents define it: biased upward
            by the choice; route_net: its format.
        ELP_split: gain of the format chosen on one half of the rollouts, read on the other half,
            both ways averaged; without optimism. None where each half has no rollout.
        route_split: the format chosen by all rollouts if both halves agree, else None (undecided).
        oracle_half: ELP of the chosen format on the half of the rollouts kept for oracles.
        total_episodes: rollouts of all conditions.
    """

    p_base: Estimate
    p_placebo: Estimate
    p_shuffled: Estimate | None
    p: Mapping[str, Estimate]
    gain_raw: Mapping[str, Estimate]
    gain_net: Mapping[str, Estimate]
    ELP_raw: float
    ELP_net: float
    route_net: str
    ELP_split: Estimate | None
    route_split: str | None
    oracle_half: float | None
    total_episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """Smallest number of steps back from which success is likely again; None: from none tried."""

    d_expert: int | None
    d_force: int | None
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledMoment:
    """One row of labeled_snapshots.jsonl.

    Attributes:
        U: the primary uncertainty (raw entropy unless the labelling says otherwise).
        quadrant_probs: probability of each quadrant given the labels' noise; empty: not assigned.
    """

    moment: Moment
    hint: Hint | None
    U: float | None = None
    uncertainty: Uncertainty | None = None
    leverage: Leverage | None = None
    patch_test: PatchTest | None = None
    depth: Depth | None = None
    quadrant: Quadrant = "UNASSIGNED"
    quadrant_probs: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The snapshot's id."""
        return self.moment.id
