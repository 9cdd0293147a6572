"""A Gaussian latent: mean, log-variance, a sample in training, and its divergence per sample.

Knows vectors and noise it is handed. Refuses to draw from any global generator, and to sample in
evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cupel.arc.encoders.contract import Extras
from cupel.arc.encoders.layers import Form, Linear
from cupel.errors import ConfigError

LOG_VARIANCE_LIMIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """A sampled (or, in evaluation, expected) latent [N, Z] and its divergence [N], in nats."""

    value: Tensor
    kl: Tensor


class Gaussian(nn.Module):
    """q(z | v) = N(μ(v), σ²(v)), trained towards N(0, I).

        KL = −½ Σ_Z (1 + log σ² − μ² − σ²)

    log σ² starts at 0 for every input (weights and bias zero) and is clamped to ±10; μ starts
    random, since from zero weights no gradient would reach the layers before it.

    Source: Kingma and Welling, arXiv:1312.6114, appendix B.
    """

    def __init__(self, form: Form, latent_dim: int) -> None:
        super().__init__()
        self.mean = Linear(form, form.width, latent_dim, bias=True)
        self.log_variance = Linear(form, form.width, latent_dim, bias=True, zero=True)

    def forward(self, vector_NW: Tensor, extras: Extras) -> Latent:
        """Return z = μ + σ ε in training, z = μ in evaluation, and the divergence of either.

        Raises:
            ConfigError: training without a generator or noise, or noise of another shape.
        """
        mean = self.mean(vector_NW).float()
        log_variance = self.log_variance(vector_NW).float()
        log_variance = log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1)
        value = mean
        if self.training:
            value = mean + (0.5 * log_variance).exp() * _noise(mean, extras)
        return Latent(value=value.to(vector_NW.dtype), kl=kl)


def _noise(like_NZ: Tensor, extras: Extras) -> Tensor:
    if extras.noise is None and extras.generator is None:
        raise ConfigError(
            "encoder: a variational kind samples in training; pass generator= or "
            f"noise= of shape {tuple(like_NZ.shape)}, or call .eval() for the mean"
        )
    if extras.noise is None:
        return torch.randn(
            like_NZ.shape, generator=extras.generator, device=like_NZ.device, dtype=torch.float32
        )
    if extras.noise.shape != like_NZ.shape:
        raise ConfigError(
            f"encoder: noise {tuple(extras.noise.shape)}; expected {tuple(like_NZ.shape)}"
        )
    return extras.noise.float()
