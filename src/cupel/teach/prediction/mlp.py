"""The network of the predictor: one trunk, five heads, labels that are missing masked out.

Knows tensors. Early stopping watches tasks of the training folds only; no number that is reported
is computed on them. Refuses global randomness: initial weights, batches and dropout come from one
generator.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from cupel.teach.prediction.baselines import inner_folds, noise_weights, scaler_of
from cupel.teach.prediction.targets import (
    CLASSES,
    REGRESSIONS,
    Classification,
    FloatArray,
    Head,
    IntArray,
    Predicted,
    Regression,
    Targets,
    heads,
    n_outputs,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the network is trained."""

    hidden: tuple[int, ...]
    epochs: int
    learning_rate: float
    weight_decay: float
    dropout: float
    batch_size: int
    patience: int
    noise_weighted: bool
    n_text: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Losses by epoch; `val` is empty when no task was held out for early stopping.

    Attributes:
        slopes: by regression head, how far predictions were drawn to the mean of the labels.
    """

    train: tuple[float, ...]
    val: tuple[float, ...]
    best_epoch: int
    slopes: Mapping[Regression, float]

    @property
    def best_val_loss(self) -> float | None:
        """Loss of the kept epoch on the held-out training tasks."""
        return self.val[self.best_epoch - 1] if self.val else None


class Network(nn.Module):
    """Standardise, trunk of ReLU layers, one linear head each; the scales are in the state."""

    def __init__(self, input_dim: int, hidden: tuple[int, ...], trained: tuple[Head, ...]) -> None:
        super().__init__()
        sizes = (input_dim, *hidden)
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.heads = nn.ModuleDict(
            {head: nn.Linear(sizes[-1], n_outputs(head)) for head in trained}
        )
        for name, size in (("feature", input_dim), ("target", len(REGRESSIONS))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))

    def forward(
        self, features: Tensor, *, dropout: float = 0.0, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return every head's output: standardised values [N, 1] or logits [N, classes]."""
        hidden = (features - self.get_buffer("feature_mean")) / self.get_buffer("feature_scale")
        for layer in self.trunk:
            hidden = torch.relu(layer(hidden))
            if dropout and generator is not None:
                kept = torch.rand(hidden.shape, generator=generator) >= dropout
                hidden = hidden * kept / (1.0 - dropout)
        return {name: head(hidden) for name, head in self.heads.items()}

    def shrink(self, slopes: Mapping[Regression, float]) -> None:
        """Draw the predictions of regression heads towards the mean of the training labels."""
        for i, head in enumerate(REGRESSIONS):
            self.get_buffer("target_scale")[i] *= slopes.get(head, 1.0)

    def predict(self, features_ND: FloatArray) -> Predicted:
        """Predict every head that was trained, in the labels' units."""
        with torch.no_grad():
            out = self.forward(torch.tensor(features_ND, dtype=torch.float32))
        mean, scale = self.get_buffer("target_mean"), self.get_buffer("target_scale")
        return Predicted(
            values={
                head: (out[head][:, 0] * scale[i] + mean[i]).double().numpy()
                for i, head in enumerate(REGRESSIONS)
                if head in out
            },
            probs={
                head: torch.softmax(out[head].double(), dim=1).numpy()
                for head in CLASSES
                if head in out
            },
        )


def fit_mlp(
    features_ND: FloatArray,
    targets: Targets,
    tasks_N: IntArray,
    training: Training,
    *,
    epochs: int | None = None,
    slopes: Mapping[Regression, float] | None = None,
    threads: int = 1,
) -> tuple[Network, Curve]:
    """Train the network.

    Args:
        epochs, slopes: train on all rows for exactly so many epochs, and shrink so far. Without
            `epochs`: hold out tasks of these rows, stop when they have not improved for
            `patience` epochs, keep the best epoch, and shrink to what they bear out.
    """
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(training.seed)
    folds = inner_folds(tasks_N, 5) if epochs is None else []
    train, held = folds[0] if folds else (np.arange(len(features_ND)), np.arange(0))
    network = _start(features_ND[train], targets.rows(train), training, generator)
    fit = _Fit(network, training, generator)
    learn = _tensors(features_ND[train], targets.rows(train), network, training)
    watch = _tensors(features_ND[held], targets.rows(held), network, training)
    losses: list[float] = []
    held_losses: list[float] = []
    best, best_epoch = copy.deepcopy(network.state_dict()), 0
    for epoch in range(1, (epochs or training.epochs) + 1):
        losses.append(fit.epoch(learn))
        if not len(held):
            best_epoch = epoch
            continue
        with torch.no_grad():
            held_losses.append(float(_loss(network(watch.features), watch)))
        if best_epoch == 0 or held_losses[-1] < held_losses[best_epoch - 1]:
            best, best_epoch = copy.deepcopy(network.state_dict()), epoch
        elif epoch - best_epoch >= training.patience:
            break
    found = dict(slopes or {})
    if len(held):
        network.load_state_dict(best)
        found = _slopes(network, features_ND[held], targets.rows(held))
    network.shrink(found)
    return network, Curve(
        train=tuple(losses), val=tuple(held_losses), best_epoch=best_epoch, slopes=found
    )


def _slopes(network: Network, features_ND: FloatArray, targets: Targets) -> dict[Regression, float]:
    """Return the least-squares slope of labels on predictions, both about the training mean.

    Within [0.05, 1]: never so flat that a ranking is lost, never steeper than what was learned;
    1 with fewer than 8 labels. Source: Copas 1983 (shrinkage of regression predictions).
    """
    said = network.predict(features_ND).values
    mean = network.get_buffer("target_mean").double().numpy()
    found: dict[Regression, float] = {}
    for i, head in enumerate(REGRESSIONS):
        known = targets.known(head)
        if head not in said or known.sum() < 8:
            continue
        x = said[head][known] - mean[i]
        y = targets.values[head][known] - mean[i]
        total = float(x @ x)
        found[head] = min(1.0, max(0.05, float(x @ y) / total)) if total > 0 else 1.0
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensors:
    """Rows as tensors; a value or class that is missing has weight 0."""

    features: Tensor
    goals: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]

    def rows(self, index: Tensor) -> _Tensors:
        return _Tensors(
            features=self.features[index],
            goals={head: goal[index] for head, goal in self.goals.items()},
            weights={head: weight[index] for head, weight in self.weights.items()},
        )


class _Fit:
    """AdamW over shuffled batches."""

    def __init__(self, network: Network, training: Training, generator: torch.Generator) -> None:
        self.network, self.training, self.generator = network, training, generator
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )

    def epoch(self, data: _Tensors) -> float:
        """Take one pass over the rows; return the mean loss of its batches."""
        order = torch.randperm(len(data.features), generator=self.generator)
        losses = []
        for index in torch.split(order, self.training.batch_size):
            batch = data.rows(index)
            out = self.network(
                batch.features, dropout=self.training.dropout, generator=self.generator
            )
            loss = _loss(out, batch)
            if not loss.requires_grad:
                continue
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(float(loss.detach()))
        return sum(losses) / len(losses) if losses else 0.0


def _start(
    features_ND: FloatArray, targets: Targets, training: Training, generator: torch.Generator
) -> Network:
    trained = tuple(head for head in heads() if targets.known(head).any())
    network = Network(features_ND.shape[1], training.hidden, trained)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(layer.in_features)
            with torch.no_grad():
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    scaler = scaler_of(features_ND, training.n_text)
    network.get_buffer("feature_mean").copy_(torch.tensor(scaler.mean_D))
    network.get_buffer("feature_scale").copy_(torch.tensor(scaler.scale_D))
    for i, head in enumerate(REGRESSIONS):
        known = targets.values[head][targets.known(head)]
        if len(known):
            deviation = float(known.std())
            network.get_buffer("target_mean")[i] = float(known.mean())
            network.get_buffer("target_scale")[i] = deviation if deviation > 1e-12 else 1.0
    return network


def _tensors(
    features_ND: FloatArray, targets: Targets, network: Network, training: Training
) -> _Tensors:
    goals: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    mean, scale = network.get_buffer("target_mean"), network.get_buffer("target_scale")
    for i, head in enumerate(REGRESSIONS):
        known = targets.known(head)
        noise = noise_weights(targets, head, on=training.noise_weighted)
        values = torch.tensor(np.where(known, targets.values[head], 0.0), dtype=torch.float32)
        goals[head] = (values - mean[i]) / scale[i]
        weights[head] = torch.tensor(known * noise, dtype=torch.float32)
    names: tuple[Classification, ...] = tuple(CLASSES)
    for name in names:
        known = targets.known(name)
        goals[name] = torch.tensor(np.where(known, targets.classes[name], 0))
        weights[name] = torch.tensor(known, dtype=torch.float32)
    features = torch.tensor(features_ND, dtype=torch.float32)
    return _Tensors(features=features, goals=goals, weights=weights)


def _loss(out: Mapping[str, Tensor], data: _Tensors) -> Tensor:
    """Sum the heads' mean losses over rows with a label: squared error or cross-entropy."""
    total = torch.zeros(())
    for head, values in out.items():
        weight = data.weights[head]
        if not bool(weight.sum() > 0):
            continue
        if head in CLASSES:
            each = nn.functional.cross_entropy(values, data.goals[head], reduction="none")
        else:
            each = (values[:, 0] - data.goals[head]) ** 2
        total = total + (weight * each).sum() / weight.sum()
    return total
