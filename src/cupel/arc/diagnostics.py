"""What training shows about itself: sums kept on the device, and statistics of contexts.

Knows tensors of one update and how they add up over several. Refuses to read anything back from
the device before it is asked to, to decide what is healthy (`health` does), and to know files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cupel.arc.halting import Carry
from cupel.arc.losses import SequenceLosses
from cupel.arc.optimizer import GradientNorms
from cupel.lab.ranks import Ranks

BINS = 10
_SUMS = (
    "updates",
    "slots",
    "accuracy",
    "exact",
    "lm",
    "q_loss",
    "q_right",
    "age",
    "all_slots",
    "halted",
    "halted_exact",
    "halted_steps",
    "forced",
    "brier",
    "kl",
    "kl_slots",
    "loss",
    "grad_encoder",
    "grad_inner",
    "grad_total",
    "clipped",
)
_ALIKE = ("updates", "loss", "grad_encoder", "grad_inner", "grad_total", "clipped")
_SIZE = len(_SUMS) + 3 * BINS


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one update leaves behind on the device; nothing here was read back.

    Attributes:
        carry: `halted` decided.
        loss: what was minimised, a scalar.
        kl_B: unweighted KL divergence a slot, or None.
    """

    losses: SequenceLosses
    carry: Carry
    q_halt_B: Tensor
    loss: Tensor
    kl_B: Tensor | None
    norms: GradientNorms


class Window:
    """Sums over the updates since the last row, as one tensor on the device."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(_SIZE, device=device)

    @torch.no_grad()
    def add(self, update: Update) -> None:
        """Add an update."""
        losses, halted = update.losses, update.carry.halted & update.losses.labelled_B
        labelled = losses.labelled_B.float()
        p_B, exact_B = torch.sigmoid(update.q_halt_B.detach().float()), losses.exact_B.float()
        one, norms = torch.ones((), device=self.sums.device), update.norms
        kl_B = update.kl_B
        values = [
            one,
            labelled.sum(),
            (losses.correct_B / losses.tokens_B.clamp(min=1)).sum(),
            losses.exact_B.sum(),
            (losses.lm_B.detach() * labelled).sum(),
            (losses.q_halt_B.detach() * labelled).sum(),
            (losses.halt_right_B * labelled).sum(),
            update.carry.steps.sum(),
            one * len(labelled),
            halted.sum(),
            (halted * exact_B).sum(),
            (halted * update.carry.steps).sum(),
            (halted & (update.q_halt_B.detach() <= 0)).sum(),
            (halted * (p_B - exact_B) ** 2).sum(),
            one * 0 if kl_B is None else kl_B.detach().float().sum(),
            one * (0 if kl_B is None else len(kl_B)),
            update.loss.detach(),
            norms.encoder,
            norms.inner,
            norms.total,
            norms.clipped,
        ]
        bin_B = (p_B.nan_to_num(0.0) * BINS).long().clamp(max=BINS - 1)
        columns = torch.stack([halted.float(), halted * p_B, halted * exact_B])
        bins = torch.zeros(3, BINS, device=columns.device).index_add_(1, bin_B, columns)
        self.sums += torch.cat([torch.stack([value.float() for value in values]), bins.flatten()])

    def read(self, ranks: Ranks) -> dict[str, float | None]:
        """Return the means over all processes, read back at once, and start anew."""
        ranks.sum(self.sums)
        numbers = self.sums.tolist()
        self.sums.zero_()
        return window_means(numbers, processes=ranks.count)


def window_means(numbers: Sequence[float], *, processes: int = 1) -> dict[str, float | None]:
    """Return the metrics that a window's sums stand for; None where nothing was counted.

    Args:
        processes: whose sums were added; what each of them counted alike is divided by it.
    """
    s = dict(zip(_SUMS, numbers, strict=False))
    s |= {name: s[name] / processes for name in _ALIKE}
    counts, chances, rights = (
        numbers[len(_SUMS) + part * BINS : len(_SUMS) + (part + 1) * BINS] for part in range(3)
    )
    gaps = [abs(p - right) for p, right in zip(chances, rights, strict=True)]

    def over(key: str, by: str) -> float | None:
        return s[key] / s[by] if s[by] else None

    return {
        "train/accuracy": over("accuracy", "slots"),
        "train/exact_accuracy": over("exact", "slots"),
        "train/lm_loss": over("lm", "slots"),
        "train/q_halt_loss": over("q_loss", "slots"),
        "train/q_halt_accuracy": over("q_right", "slots"),
        "train/steps": over("age", "all_slots"),
        "train/count": over("slots", "updates"),
        "grad/encoder_norm": over("grad_encoder", "updates"),
        "grad/inner_norm": over("grad_inner", "updates"),
        "grad/total_norm": over("grad_total", "updates"),
        "grad/clip_rate": over("clipped", "updates"),
        "loss": over("loss", "updates"),
        "kl": over("kl", "kl_slots"),
        "em_at_halt": over("halted_exact", "halted"),
        "em_at_halt_n": s["halted"],
        "steps_at_halt": over("halted_steps", "halted"),
        "forced_fraction": over("forced", "halted"),
        "q_calibration_error": sum(gaps) / sum(counts) if sum(counts) else None,
        "q_brier": over("brier", "halted"),
        "updates": s["updates"],
        "slot_steps": s["all_slots"],
    }


@torch.no_grad()
def context_statistics(context_BCD: Tensor) -> dict[str, Tensor]:
    """Return what the ETRM project logs of the encoder's output, as scalars on the device.

    `encoder_token_std` is over slots, as it is there; `encoder_position_std` is what its name says.
    A batch of one slot has no variance over slots: not a number, to be reported as missing.
    """
    context = context_BCD.detach().float()
    alone = context.shape[0] < 2
    nothing = torch.full((), torch.nan, device=context.device)
    return {
        "train/encoder_cross_sample_var": nothing
        if alone
        else context.var(dim=0, correction=0).mean(),
        "train/encoder_output_mean": context.mean(),
        "train/encoder_output_norm": torch.linalg.vector_norm(context, dim=-1).mean(),
        "train/encoder_output_std": context.std(correction=0),
        "train/encoder_token_std": nothing if alone else context.std(dim=0).mean(),
        "encoder_position_std": context.std(dim=1, correction=0).mean(),
    }


@torch.no_grad()
def gradient_coverage(gradient_BCD: Tensor | None) -> Tensor | None:
    """Return the share of slots whose context got a gradient; None when nothing was asked."""
    if gradient_BCD is None:
        return None
    return (gradient_BCD.abs().amax(dim=(1, 2)) > 0).float().mean()


class UpdateRatio:
    """How far an update moves a module, relative to its weights: |after - before| / |before|."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._before = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def measure(self) -> Tensor | None:
        """Return the ratio after the update; None for a module without weights."""
        if not self._parameters:
            return None
        now = [p.detach() for p in self._parameters]
        moved = _norm(torch._foreach_sub(now, self._before))
        return moved / _norm(self._before).clamp(min=1e-12)


def read_scalars(values: Mapping[str, Tensor | None]) -> dict[str, float | None]:
    """Read scalars back from the device at once; what is not a number is missing."""
    present = {name: value for name, value in values.items() if value is not None}
    numbers = torch.stack([v.float() for v in present.values()]).tolist() if present else []
    read = dict(zip(present, numbers, strict=True))
    return {name: None if (x := read.get(name)) is None or x != x else x for name in values}


@dataclass(slots=True, kw_only=True)
class Spread:
    """Variance of vectors between and within groups, gathered batch by batch on the device."""

    sums_GV: Tensor
    counts_G: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, groups: int, size: int, device: torch.device) -> Spread:
        """Return a spread of nothing."""
        return cls(
            sums_GV=torch.zeros(groups, size, dtype=torch.float64, device=device),
            counts_G=torch.zeros(groups, dtype=torch.float64, device=device),
            squares=torch.zeros((), dtype=torch.float64, device=device),
        )

    def add(self, vectors_BV: Tensor, group_B: Tensor) -> None:
        """Add vectors, each of a group."""
        vectors = vectors_BV.double()
        self.sums_GV.index_add_(0, group_B, vectors)
        self.counts_G.index_add_(0, group_B, torch.ones_like(group_B, dtype=torch.float64))
        self.squares += (vectors**2).sum()

    def between_share(self) -> float | None:
        """Return (variance of group means) / (total variance); None where nothing varies.

        One group, or one vector a group, says nothing: None.
        """
        n, groups = float(self.counts_G.sum()), int((self.counts_G > 0).sum())
        if groups < 2 or n <= groups:
            return None
        mean_V = self.sums_GV.sum(dim=0) / n
        total = float(self.squares / n - (mean_V**2).sum())
        means_GV = self.sums_GV / self.counts_G.clamp(min=1)[:, None]
        between = float((self.counts_G[:, None] * (means_GV - mean_V) ** 2).sum()) / n
        return min(between / total, 1.0) if total > 1e-12 else None


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    total: Tensor = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(tensors)))))
    return total
