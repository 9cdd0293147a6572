"""How weights move: Adam-atan2, parameter groups, freezing, reduction and clipping.

Knows gradients and groups of parameters. Refuses to know models beyond which parameters are the
encoder's, and losses. Gradients are averaged over ranks first and clipped after, so that the clip
does not depend on how many ranks there are; norms are those before clipping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cupel.arc.model_config import OptimizerConfig
from cupel.arc.schedules import is_frozen, learning_rate
from cupel.errors import ConfigError

SumOverRanks = Callable[[Tensor], None]
"""Replaces a flat tensor by its sum over all ranks, in place."""

ENCODER, INNER = "encoder", "inner"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientNorms:
    """Global L2 norms of the reduced gradient before clipping, as scalars on the device.

    Attributes:
        encoder: of the encoder's parameters; 0 where it has none or is frozen.
        inner: of the decoder's.
        total: of all; total² = encoder² + inner².
        clipped: the gradient was scaled down, bool.
    """

    encoder: Tensor
    inner: Tensor
    total: Tensor
    clipped: Tensor


class AdamAtan2(torch.optim.Optimizer):
    """Adam whose update is an angle: no epsilon, and no change when the loss is scaled.

        p <- p · (1 - lr · wd)
        m <- β1 m + (1 - β1) g,   v <- β2 v + (1 - β2) g²
        p <- p - lr / (1 - β1^t) · atan2(m, sqrt(v / (1 - β2^t)))

    One update moves a weight by at most lr · π / (2 (1 - β1^t)); a gradient of 0 does not move it.
    Parameters without a gradient are left alone, decay included.

    Source: Everett et al., "Scaling Exponents Across Parameterizations and Optimizers",
    arXiv:2407.05872, section 5; the bias correction of m outside the angle and a = b = 1 as in the
    implementation used by arXiv:2510.04871.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient.

        Raises:
            ConfigError: a closure was given.
        """
        if closure is not None:
            raise ConfigError("AdamAtan2.step: closures are not supported; call backward first")
        for group in self.param_groups:
            by_age: dict[int, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                by_age.setdefault(state["step"], []).append(parameter)
            for age, parameters in by_age.items():
                self._move(parameters, age, group)

    def _move(self, parameters: list[Tensor], age: int, group: Mapping[str, Any]) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        grads = [p.grad for p in parameters if p.grad is not None]
        means = [self.state[p]["exp_avg"] for p in parameters]
        squares = [self.state[p]["exp_avg_sq"] for p in parameters]
        torch._foreach_mul_(parameters, 1.0 - lr * group["weight_decay"])
        torch._foreach_lerp_(means, grads, 1.0 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1.0 - beta2)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_mul_(scales, 1.0 / math.sqrt(1.0 - beta2**age))
        angles = [torch.atan2(m, s, out=s) for m, s in zip(means, scales, strict=True)]
        torch._foreach_add_(parameters, angles, alpha=-lr / (1.0 - beta1**age))


def build_optimizer(
    encoder: Sequence[nn.Parameter], inner: Sequence[nn.Parameter], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Return the optimizer over two groups, named "encoder" and "inner", each with its lr scale."""
    groups = [
        {"name": ENCODER, "params": list(encoder), "lr_scale": config.encoder_lr_scale},
        {"name": INNER, "params": list(inner), "lr_scale": 1.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adam_atan2":
        return AdamAtan2(groups, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=betas, weight_decay=config.weight_decay, foreach=True
    )


def prepare_update(
    optimizer: torch.optim.Optimizer, update: int, *, total_steps: int, config: OptimizerConfig
) -> dict[str, float]:
    """Drop old gradients, set the learning rates, freeze and thaw for an update counted from 1.

    A frozen group has requires_grad off: it gets no gradient, no momentum and no weight decay.
    Call it before the forward.

    Returns:
        The learning rate by group name, 0.0 for a frozen group.

    Raises:
        ConfigError: the update is outside 1 ... total_steps.
    """
    lr = learning_rate(
        update,
        lr=config.lr,
        warmup_steps=config.lr_warmup_steps,
        total_steps=total_steps,
        min_ratio=config.lr_min_ratio,
    )
    freeze = {ENCODER: config.freeze_encoder_steps, INNER: config.freeze_decoder_steps}
    optimizer.zero_grad(set_to_none=True)
    rates = {}
    for group in optimizer.param_groups:
        frozen = is_frozen(update, freeze[group["name"]])
        for parameter in group["params"]:
            parameter.requires_grad_(not frozen)
        group["lr"] = lr * group["lr_scale"]
        rates[group["name"]] = 0.0 if frozen else group["lr"]
    return rates


def reduce_gradients(
    optimizer: torch.optim.Optimizer, *, ranks: int, sum_over_ranks: SumOverRanks
) -> None:
    """Replace every gradient by its mean over ranks, with one reduction of one flat tensor.

    Parameters that are trained but got no gradient on this rank take part as zeros, so that all
    ranks send the same layout.
    """
    trained = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grads = [p.grad for p in trained if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    sum_over_ranks(flat)
    flat /= ranks
    pieces = torch.split(flat, [grad.numel() for grad in grads])
    torch._foreach_copy_(grads, [piece.view_as(g) for piece, g in zip(pieces, grads, strict=True)])


@torch.no_grad()
def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float | None) -> GradientNorms:
    """Scale the whole gradient down to `max_norm` where it is longer; read nothing back.

    Call it after `reduce_gradients`. A gradient that is not finite stays so and shows in the norm.
    """
    grads = {group["name"]: _grads(group["params"]) for group in optimizer.param_groups}
    device = optimizer.param_groups[0]["params"][0].device
    encoder, inner = (_norm(grads.get(name, []), device) for name in (ENCODER, INNER))
    total = torch.hypot(encoder, inner)
    clipped = torch.zeros((), dtype=torch.bool, device=device)
    if max_norm is not None:
        clipped = total > max_norm
        scale = torch.where(clipped, max_norm / total, 1.0)
        everything = [grad for group in grads.values() for grad in group]
        if everything:
            torch._foreach_mul_(everything, scale)
    return GradientNorms(encoder=encoder, inner=inner, total=total, clipped=clipped)


def _grads(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _norm(grads: Sequence[Tensor], device: torch.device) -> Tensor:
    if not grads:
        return torch.zeros((), device=device)
    norms = torch.stack(list(torch._foreach_norm(list(grads))))
    total: Tensor = torch.linalg.vector_norm(norms)
    return total
