"""From the rewards of a group of completions to one advantage a completion.

Pure. Knows groups: P problems, G completions of each. Refuses to know tokens; shaping an
advantage over a completion's tokens is `cupel.rlvr.credit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cupel.config import did_you_mean
from cupel.errors import AlgorithmicFailure, ConfigError

AdvantageMode = Literal["grpo", "maxrl"]
Normalize = Literal["none", "std"]
FloatPG = NDArray[np.float64]

STD_EPSILON = 1e-6


def advantages(
    mode: AdvantageMode, rewards_PG: FloatPG, *, normalize: Normalize = "none"
) -> FloatPG:
    """Return the advantage of every completion within its group.

    A group whose rewards are all equal, a group of one among them, gets exactly zero.

    Raises:
        ConfigError: the mode is unknown, or `normalize` is set where it means nothing.
        AlgorithmicFailure: a reward is not finite, or negative where it must not be.
    """
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
        case _:
            raise ConfigError(
                f"advantages: advantage_mode '{mode}' is unknown; "
                f"{did_you_mean(mode, ('grpo', 'maxrl'))}"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOutcomes:
    """How many groups teach, and how many do not.

    Attributes:
        all_right: groups whose rewards are all equal and positive.
        all_wrong: groups whose rewards are all equal and not positive.
        mixed: groups with different rewards: the only ones that teach.
    """

    all_right: int
    all_wrong: int
    mixed: int


def group_outcomes(rewards_PG: FloatPG) -> GroupOutcomes:
    """Count groups by outcome; equality is exact."""
    equal_P = _all_equal(rewards_PG)
    right = int((equal_P & (rewards_PG[:, 0] > 0)).sum())
    return GroupOutcomes(
        all_right=right,
        all_wrong=int(equal_P.sum()) - right,
        mixed=int((~equal_P).sum()),
    )


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
