"""Where the next rollouts go: to the moments that are still undecided, until the budget ends.

Pure. Knows estimates and counts of rollouts. Refuses to look at anything but what it decides on,
and to stop without saying why.

A moment's leverage is undecided while .1 < P(L_local > threshold) < .9; its route while the
likeliest best format has a probability below .9 and a gain that is not ruled out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from cupel.config import Config
from cupel.teach.branches.arms import Arms, chance_above, chances_of_best, probability
from cupel.teach.records import FORMATS, Condition

StopRule = Literal["no_budget_given", "decided", "budget_spent", "arms_full", "rounds_done"]

LEVERAGE_ARMS: tuple[Condition, ...] = ("policy", "force")
PATCH_ARMS: tuple[Condition, ...] = ("policy", "placebo", *FORMATS)


class RolloutConfig(Config):
    """How many rollouts a moment gets at first, by condition."""

    policy: Annotated[int, Field(ge=1)] = 7
    """Of the student alone; also the base of the patch test."""
    force: Annotated[int, Field(ge=1)] = 7
    """Of the student after the teacher's action."""
    expert: Annotated[int, Field(ge=1)] = 2
    """Of the expert."""
    patch: Annotated[int, Field(ge=1)] = 2
    """Of each note: placebo, shuffled, demo, contrast, hint."""


class AllocationConfig(Config):
    """How rollouts beyond the first are allocated."""

    budget: Annotated[int, Field(ge=0)] | None = None
    """Episodes for all moments together, the first ones included; default: only the first ones,
    whatever they cost. Moments that it does not reach stay unlabelled and are counted."""
    batch: Annotated[int, Field(ge=1)] = 8
    """Rollouts added to each arm of an undecided moment at a time."""
    most_per_arm: Annotated[int, Field(ge=1)] = 64
    """Rollouts an arm may have."""
    decided: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Probability from which a question counts as decided, either way."""
    L_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.1
    """The effect size of L_local that is to be decided about."""
    rounds: Annotated[int, Field(ge=0)] = 16
    """Most rounds of additions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a moment still asks for.

    Attributes:
        arms: the number of rollouts each arm would get, by condition.
        doubt: how undecided it is, in [0, 1]; the largest of its questions.
    """

    snapshot_id: str
    arms: Mapping[Condition, int]
    doubt: float

    @property
    def episodes(self) -> int:
        """Rollouts asked for."""
        return sum(self.arms.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The additions of one round, or why there is none.

    Attributes:
        needs: most undecided first; empty when `stop` says why.
        undecided: number of moments with an open question, arms that are full included.
    """

    needs: tuple[Need, ...]
    undecided: int
    stop: StopRule | None = None


def next_round(
    arms: Mapping[str, Arms], config: AllocationConfig, *, spent: int, number: int
) -> Round:
    """Choose the moments that get a batch in round `number`, within what is left of the budget.

    Depends on the outcomes alone, and not on their order.
    """
    open_questions = {name: doubts(one, config) for name, one in arms.items()}
    undecided = sum(any(open_one.values()) for open_one in open_questions.values())
    needs = [
        need
        for name in sorted(arms)
        if (need := need_of(name, arms[name], open_questions[name], config)) is not None
    ]
    stop = _stop(needs, undecided, config, number)
    if stop is not None:
        return Round(needs=(), undecided=undecided, stop=stop)
    assert config.budget is not None
    chosen, left = [], config.budget - spent
    for need in sorted(needs, key=lambda need: (-need.doubt, need.snapshot_id)):
        if need.episodes <= left:
            chosen.append(need)
            left -= need.episodes
    if not chosen:
        return Round(needs=(), undecided=undecided, stop="budget_spent")
    return Round(needs=tuple(chosen), undecided=undecided)


def doubts(arms: Arms, config: AllocationConfig) -> dict[str, float]:
    """Return how undecided a moment's leverage and route are, in (0, 1]; 0 is decided."""
    return {
        "leverage": _in_doubt(leverage_chance(arms, config.L_threshold), config.decided),
        "route": _route_doubt(arms, config),
    }


def leverage_chance(arms: Arms, threshold: float) -> float | None:
    """Return P(L_local > threshold); None without both arms."""
    policy, force = probability(arms.get("policy")), probability(arms.get("force"))
    if policy is None or force is None:
        return None
    return chance_above(policy, force, threshold)


def need_of(
    snapshot_id: str, arms: Arms, doubt: Mapping[str, float], config: AllocationConfig
) -> Need | None:
    """Return the batch a moment asks for; None when it is decided, exact, or its arms are full."""
    wanted: set[Condition] = set()
    if doubt["leverage"]:
        wanted |= set(LEVERAGE_ARMS)
    if doubt["route"]:
        wanted |= set(PATCH_ARMS)
    batches: dict[Condition, int] = {}
    for name in sorted(wanted & set(arms)):
        arm = arms[name]
        room = config.most_per_arm - arm.n - arm.errors
        if arm.lo is None and room > 0:
            batches[name] = min(config.batch, room)
    if not batches:
        return None
    return Need(snapshot_id=snapshot_id, arms=batches, doubt=max(doubt.values()))


def first_moments(costs: Sequence[int], budget: int | None) -> int:
    """Return how many moments, in order, the budget pays the first rollouts of."""
    if budget is None:
        return len(costs)
    spent = 0
    for number, cost in enumerate(costs):
        spent += cost
        if spent > budget:
            return number
    return len(costs)


def _stop(
    needs: Sequence[Need], undecided: int, config: AllocationConfig, number: int
) -> StopRule | None:
    if config.budget is None:
        return "no_budget_given"
    if undecided == 0:
        return "decided"
    if not needs:
        return "arms_full"
    return "rounds_done" if number >= config.rounds else None


def _route_doubt(arms: Arms, config: AllocationConfig) -> float:
    formats = {str(n): one for n in FORMATS if (one := probability(arms.get(n))) is not None}
    placebo = probability(arms.get("placebo"))
    if placebo is None or len(formats) < 2:
        return 0.0
    chances = chances_of_best(formats)
    best = max(chances, key=lambda name: chances[name])
    gain = chance_above(placebo, formats[best], 0.0)
    if chances[best] >= config.decided or gain <= 1 - config.decided:
        return 0.0
    return 1.0 - chances[best]


def _in_doubt(chance: float | None, decided: float) -> float:
    if chance is None or not 1 - decided < chance < decided:
        return 0.0
    return 1.0 - abs(2 * chance - 1)
