"""From the rewards of a group of completions to one advantage a completion.

Pure. Knows groups: P problems, G completions of each. Refuses to know tokens beyond their number;
shaping an advantage over a completion's tokens is `cupel.rlvr.credit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cupel.config import did_you_mean
from cupel.errors import AlgorithmicFailure, ConfigError

AdvantageMode = Literal["grpo", "maxrl", "rloo", "reinforce_pp", "reinforce_pp_baseline"]
Normalize = Literal["none", "std"]
FloatPG = NDArray[np.float64]

STD_EPSILON = 1e-6

ADVANTAGE_MODES = get_args(AdvantageMode)

OF_THE_BATCH = ("reinforce_pp",)
"""Modes whose baseline is the batch: a group of equal rewards teaches too."""


def advantages(
    mode: AdvantageMode,
    rewards_PG: FloatPG,
    *,
    normalize: Normalize = "none",
    penalties_PG: FloatPG | None = None,
) -> FloatPG:
    """Return the advantage of every completion within its group, or batch for `OF_THE_BATCH`.

    A group whose rewards are all equal, a group of one among them, gets exactly zero where the
    baseline is the group's, whatever its penalties: penalties separate only completions of a group
    that teaches anyway.

    Args:
        penalties_PG: added to the rewards, at most 0; see `overlong_penalties`.

    Raises:
        ConfigError: the mode is unknown, or `normalize` is set where it means nothing.
        AlgorithmicFailure: a reward is not finite, or negative where it must not be.
    """
    if penalties_PG is None:
        return _advantages(mode, rewards_PG, normalize)
    shaped_PG = _advantages(mode, rewards_PG + penalties_PG, normalize)
    if mode not in OF_THE_BATCH:
        shaped_PG[_all_equal(rewards_PG)] = 0.0
    return shaped_PG


def _advantages(mode: AdvantageMode, rewards_PG: FloatPG, normalize: Normalize) -> FloatPG:
    if normalize != "none" and mode not in ("grpo", "maxrl"):
        raise ConfigError(
            f"advantages: normalize = '{normalize}' with advantage_mode '{mode}'; only 'grpo' has "
            "the choice; use normalize = 'none'"
        )
    match mode:
        case "grpo":
            return grpo_advantages(rewards_PG, normalize=normalize)
        case "maxrl":
            if normalize != "none":
                raise ConfigError(
                    f"advantages: normalize = '{normalize}' with advantage_mode 'maxrl', which "
                    "divides by the group mean already; use normalize = 'none', or 'grpo'"
                )
            return maxrl_advantages(rewards_PG)
        case "rloo":
            return rloo_advantages(rewards_PG)
        case "reinforce_pp" | "reinforce_pp_baseline":
            return reinforce_pp_advantages(rewards_PG, baseline=mode == "reinforce_pp_baseline")
        case _:
            raise ConfigError(
                f"advantages: advantage_mode '{mode}' is unknown; "
                f"{did_you_mean(mode, ADVANTAGE_MODES)}"
            )


def grpo_advantages(rewards_PG: FloatPG, *, normalize: Normalize = "none") -> FloatPG:
    """Center rewards on the group mean: A = r - mean(r).

    With `normalize="std"` divide by the group's population standard deviation + 1e-6.

    >>> grpo_advantages(np.array([[1.0, 0.0, 0.0, 0.0]])).tolist()
    [[0.75, -0.25, -0.25, -0.25]]

    Source: GRPO, arXiv:2402.03300 (with std); Dr. GRPO, arXiv:2503.20783 (without).

    Raises:
        AlgorithmicFailure: a reward is not finite.
    """
    _check_finite(rewards_PG, "grpo_advantages")
    centered_PG = _centered(rewards_PG)
    if normalize == "std":
        deviation_P1 = np.sqrt((centered_PG**2).mean(axis=1, keepdims=True))
        centered_PG = centered_PG / (deviation_P1 + STD_EPSILON)
    return centered_PG


def maxrl_advantages(rewards_PG: FloatPG) -> FloatPG:
    """Center rewards on the group mean, then divide by it: A = (r - mean(r)) / mean(r).

    With binary rewards and K of G correct, a correct completion gets (G - K)/K and a wrong one
    -1. A group without reward gets zero: it holds no signal.

    >>> maxrl_advantages(np.array([[1.0, 0.0, 0.0, 0.0]])).tolist()
    [[3.0, -1.0, -1.0, -1.0]]

    Source: MaxRL, arXiv:2602.02710. Departure: no epsilon in the denominator; the group mean is
    either zero, which is handled, or a number that can be divided by.

    Raises:
        AlgorithmicFailure: a reward is negative or not finite.
    """
    _check_finite(rewards_PG, "maxrl_advantages")
    if (rewards_PG < 0).any():
        raise AlgorithmicFailure(
            f"maxrl_advantages: reward {rewards_PG.min():g} is negative; rewards must be >= 0 "
            "because the group mean is a divisor. Shift them, or use advantage_mode 'grpo'"
        )
    mean_P1 = rewards_PG.mean(axis=1, keepdims=True)
    divisor_P1 = np.where(mean_P1 > 0, mean_P1, 1.0)
    divided: FloatPG = _centered(rewards_PG) / divisor_P1
    return divided


def rloo_advantages(rewards_PG: FloatPG) -> FloatPG:
    """Subtract from each reward the mean of the others of its group (leave one out).

        A_i = r_i - 1/(G-1) sum_{j != i} r_j = G/(G-1) (r_i - mean(r))

    A group of one has no others, and gets zero.

    >>> rloo_advantages(np.array([[1.0, 0.0, 0.0]])).tolist()
    [[1.0, -0.5, -0.5]]

    Source: RLOO, arXiv:2402.14740.

    Raises:
        AlgorithmicFailure: a reward is not finite.
    """
    _check_finite(rewards_PG, "rloo_advantages")
    group = rewards_PG.shape[1]
    scaled_PG: FloatPG = _centered(rewards_PG) * (group / max(group - 1, 1))
    return scaled_PG


def reinforce_pp_advantages(rewards_PG: FloatPG, *, baseline: bool) -> FloatPG:
    """Normalise over the whole batch: A = (r - mean_batch(r)) / (std_batch(r) + 1e-6).

    With `baseline`, r is first centered on its group's mean, so that the batch's mean is 0; the
    divisor is still the batch's. A batch without spread gets zero.

    >>> rewards_PG = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> reinforce_pp_advantages(rewards_PG, baseline=False).round(3).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]

    Source: REINFORCE++ and REINFORCE++-Baseline, arXiv:2501.03262. Departures: mean and deviation
    are over completions, not tokens; a KL penalty, where asked for, stands in the loss.

    Raises:
        AlgorithmicFailure: a reward is not finite.
    """
    _check_finite(rewards_PG, "reinforce_pp_advantages")
    kept_PG = _centered(rewards_PG) if baseline else rewards_PG.astype(np.float64)
    if (kept_PG == kept_PG.flat[0]).all():
        return np.zeros(kept_PG.shape)
    centered_PG: FloatPG = kept_PG if baseline else kept_PG - kept_PG.mean()
    normalised_PG: FloatPG = centered_PG / (kept_PG.std() + STD_EPSILON)
    return normalised_PG


def overlong_penalties(
    lengths_PG: NDArray[np.int32], *, max_tokens: int, buffer_rate: float, penalty: float
) -> FloatPG:
    """Penalise completions that come near the token limit: 0 down to -penalty, linearly.

        L <= T - B    0
        else          -penalty (L - (T - B)) / B         T = max_tokens, B = buffer_rate T

    >>> overlong_penalties(
    ...     np.array([[80, 90, 100]]), max_tokens=100, buffer_rate=0.2, penalty=0.5
    ... ).tolist()
    [[-0.0, -0.25, -0.5]]

    Source: soft overlong punishment, DAPO, arXiv:2503.14476 eq. 13, whose rewards are -1 and 1;
    here they are 0 and 1, so its penalty of 1 is 0.5.
    """
    buffer = buffer_rate * max_tokens
    over_PG = np.maximum(lengths_PG - (max_tokens - buffer), 0.0)
    penalties: FloatPG = -penalty * over_PG / buffer
    return penalties


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOutcomes:
    """How many groups teach, and how many do not.

    Attributes:
        all_right: groups whose rewards are all equal and positive.
        all_wrong: groups whose rewards are all equal and not positive.
        mixed: groups with different rewards: under a group's baseline the only ones that teach.
    """

    all_right: int
    all_wrong: int
    mixed: int


def group_outcomes(rewards_PG: FloatPG) -> GroupOutcomes:
    """Count groups by outcome, before any penalty; equality is exact."""
    equal_P = _all_equal(rewards_PG)
    right = int((equal_P & (rewards_PG[:, 0] > 0)).sum())
    return GroupOutcomes(
        all_right=right,
        all_wrong=int(equal_P.sum()) - right,
        mixed=int((~equal_P).sum()),
    )


def mixed_groups(rewards_PG: FloatPG) -> NDArray[np.bool_]:
    """Return [P], True where a group's rewards differ."""
    mixed: NDArray[np.bool_] = ~_all_equal(rewards_PG)
    return mixed


def _centered(rewards_PG: FloatPG) -> FloatPG:
    """Subtract the group mean; groups of equal rewards become exactly zero."""
    centered_PG: FloatPG = rewards_PG - rewards_PG.mean(axis=1, keepdims=True)
    centered_PG[_all_equal(rewards_PG)] = 0.0  # the mean of equal numbers may be off by rounding
    return centered_PG


def _all_equal(rewards_PG: FloatPG) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = (rewards_PG == rewards_PG[:, :1]).all(axis=1)
    return equal


def _check_finite(rewards_PG: FloatPG, where: str) -> None:
    if not np.isfinite(rewards_PG).all():
        group, sample = np.argwhere(~np.isfinite(rewards_PG))[0]
        raise AlgorithmicFailure(
            f"{where}: the reward of group {group}, completion {sample} is "
            f"{rewards_PG[group, sample]}; a reward must be finite. Count what cannot be graded "
            "as ungradable and reward it 0"
        )
