"""A language model of one table, small enough to differentiate by hand: what the fake serves.

Knows next-token logprobs, the four policy losses with their exact gradient, the two ways to reduce
them, Adam and sampling. Refuses to know requests, names and files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Reduction = Literal["sum", "seq_mean"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LOSSES = ("cross_entropy", "importance_sampling", "ppo", "cispo")
CLIP = {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A datum: every array has one entry a target token; a weight of 0 takes a token out."""

    inputs_T: Ints
    targets_T: Ints
    weights_T: Floats
    advantages_T: Floats
    logprobs_T: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What a row gave: the trainer's logprobs, each token's loss, the gradient in the logits."""

    logprobs_T: Floats
    loss_T: Floats
    gradient_VV: Floats


@dataclass(slots=True, kw_only=True)
class Bigram:
    """Weights, the gradient gathered since the last step, and Adam's moments."""

    base_VV: Floats
    delta_VV: Floats
    gradient_VV: Floats
    rows: int = 0
    steps: int = 0
    moments_2VV: Floats = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def start(cls, vocabulary: int) -> Bigram:
        """Return the base model: a fixed table, and adapters that add nothing yet."""
        base_VV = np.random.default_rng(7).normal(0, 1.5, (vocabulary, vocabulary))
        zeros_VV = np.zeros_like(base_VV)
        return cls(
            base_VV=base_VV,
            delta_VV=zeros_VV.copy(),
            gradient_VV=zeros_VV.copy(),
            moments_2VV=np.stack([zeros_VV, zeros_VV]),
        )

    def logprobs(self, contexts_T: Ints) -> Floats:
        """Return next-token logprobs after each token, [T, V]."""
        logits_TV = (self.base_VV + self.delta_VV)[contexts_T]
        logits_TV = logits_TV - logits_TV.max(axis=1, keepdims=True)
        return logits_TV - np.log(np.exp(logits_TV).sum(axis=1, keepdims=True))

    def losses(self, row: Row, loss: str, settings: dict[str, float]) -> Losses:
        """Evaluate a loss at the present weights."""
        table_TV = self.logprobs(row.inputs_T)
        at_T = np.arange(len(row.targets_T))
        logprobs_T = table_TV[at_T, row.targets_T]
        loss_T, slope_T = _loss(loss, logprobs_T, row, {**CLIP, **settings})
        score_TV = -np.exp(table_TV)
        score_TV[at_T, row.targets_T] += 1
        gradient_VV = np.zeros_like(self.delta_VV)
        np.add.at(gradient_VV, row.inputs_T, (slope_T * row.weights_T)[:, None] * score_TV)
        return Losses(logprobs_T=logprobs_T, loss_T=loss_T * row.weights_T, gradient_VV=gradient_VV)

    def gather(self, found: Losses, row: Row, reduction: Reduction) -> None:
        """Add a row's gradient: summed over tokens, or averaged over the row's weights."""
        share = 1.0 if reduction == "sum" else 1 / max(float(row.weights_T.sum()), 1e-9)
        self.gradient_VV += share * found.gradient_VV
        self.rows += 1

    def step(self, adam: dict[str, float], reduction: Reduction, *, clips: bool) -> float:
        """Take Adam's step with what was gathered; return the gradient's norm before clipping."""
        gradient_VV = self.gradient_VV
        if reduction == "seq_mean":
            gradient_VV = gradient_VV / max(self.rows, 1)
        norm = float(np.sqrt((gradient_VV**2).sum()))
        limit = adam.get("grad_clip_norm", 0.0)
        if clips and 0 < limit < norm:
            gradient_VV = gradient_VV * (limit / norm)
        self.steps += 1
        decays_2 = (adam["beta1"], adam["beta2"])
        for moment_VV, decay, value_VV in zip(
            self.moments_2VV, decays_2, (gradient_VV, gradient_VV**2), strict=True
        ):
            moment_VV *= decay
            moment_VV += (1 - decay) * value_VV
        mean_VV, square_VV = (
            moment_VV / (1 - decay**self.steps)
            for moment_VV, decay in zip(self.moments_2VV, decays_2, strict=True)
        )
        self.delta_VV *= 1 - adam["learning_rate"] * adam["weight_decay"]
        self.delta_VV -= adam["learning_rate"] * mean_VV / (np.sqrt(square_VV) + adam["eps"])
        self.gradient_VV = np.zeros_like(gradient_VV)
        self.rows = 0
        return norm

    def sample(
        self, last: int, *, tokens: int, temperature: float, stop: set[int], seed: int
    ) -> tuple[list[int], list[float]]:
        """Continue after a token; a stop token is the last one kept. Logprobs are untempered."""
        rng = np.random.default_rng(seed)
        found: list[int] = []
        logprobs: list[float] = []
        while len(found) < tokens and not (found and found[-1] in stop):
            logprobs_V = self.logprobs(np.array([last]))[0]
            noise_V = rng.gumbel(size=len(logprobs_V))
            scores_V = logprobs_V / temperature + noise_V if temperature > 0 else logprobs_V
            last = int(scores_V.argmax())
            found.append(last)
            logprobs.append(float(logprobs_V[last]))
        return found, logprobs


def _loss(
    name: str, logprobs_T: Floats, row: Row, settings: dict[str, float]
) -> tuple[Floats, Floats]:
    """Return each token's loss and its derivative in the token's logprob."""
    if name == "cross_entropy":
        return -logprobs_T, -np.ones_like(logprobs_T)
    advantages_T = row.advantages_T
    ratio_T = np.exp(logprobs_T - row.logprobs_T)
    if name == "importance_sampling":
        return -ratio_T * advantages_T, -ratio_T * advantages_T
    clipped_T = np.clip(ratio_T, settings["clip_low_threshold"], settings["clip_high_threshold"])
    if name == "cispo":
        return -clipped_T * logprobs_T * advantages_T, -clipped_T * advantages_T
    free_T = ratio_T * advantages_T
    bound_T = clipped_T * advantages_T
    return -np.minimum(free_T, bound_T), np.where(free_T <= bound_T, -free_T, 0.0)
