"""Losses over several completions of one prompt: two candidates, and a whole distribution.

Knows log-probabilities of completions. Refuses to know tokens and models.
"""

from __future__ import annotations

import torch
from torch import Tensor


def two_candidate_loss(better_N: Tensor, worse_N: Tensor) -> Tensor:
    """Return -log pi(better) / (pi(better) + pi(worse)) of each pair, from log-probabilities.

    Where the pair are all valid actions this is the cross-entropy of the acting policy.
    """
    return -torch.nn.functional.logsigmoid(better_N - worse_N)


def dpo_loss(better_N: Tensor, worse_N: Tensor, start_N: Tensor, *, beta: float) -> Tensor:
    """Return -log sigmoid(beta (log-ratio now - log-ratio of the starting model)) of each pair.

    Args:
        start_N: log pi(better) - log pi(worse) under the starting model.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7.
    """
    return -torch.nn.functional.logsigmoid(beta * (better_N - worse_N - start_N))


def distillation_loss(scores_A: Tensor, target_A: Tensor) -> Tensor:
    """Return KL(target || softmax(scores)) over one state's actions, in nats.

    Args:
        scores_A: log-probabilities of the actions' completions.
        target_A: probabilities to match; actions of probability 0 count nothing.

    Source: Askell et al. 2021, arXiv:2112.00861, section 2.3 (context distillation).
    """
    logs_A = torch.log_softmax(scores_A, dim=-1)
    return (torch.xlogy(target_A, target_A) - target_A * logs_A).sum()
