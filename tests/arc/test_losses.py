"""Stablemax against float64, losses as per-slot means."""

from __future__ import annotations

import math

import pytest
import torch

from cupel.arc.losses import IGNORE, log_stablemax, sequence_losses, total_loss
from cupel.errors import ConfigError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def reference_log_stablemax(logits):
    """The definition itself, in float64: s(x) = x + 1 or 1 / (1 - x), p = s / Σ s."""
    x = logits.double()
    s = torch.where(x >= 0, x + 1, 1 / (1 - x))
    return (s / s.sum(dim=-1, keepdim=True)).log()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_stablemax_in_float32_is_within_1e_6_of_float64(scale):
    logits = torch.randn(500, 12, generator=generator()) * scale
    error = (log_stablemax(logits).double() - reference_log_stablemax(logits)).abs()
    expected = reference_log_stablemax(logits).abs().clamp(min=1.0)
    assert (error / expected).max() < 1e-6


@pytest.mark.parametrize("value", [1e4, -1e4, 1e30, 0.0])
def test_stablemax_gradient_is_finite_and_right_at_extremes(value):
    x = torch.full((1, 12), value)
    x[0, 3] = -value
    x.requires_grad_()
    (-log_stablemax(x)[0, 3]).backward()
    assert torch.isfinite(x.grad).all()
    y = x.detach().double().requires_grad_()
    (-reference_log_stablemax(y)[0, 3]).backward()
    if abs(value) < 1e5:
        torch.testing.assert_close(x.grad.double(), y.grad, atol=1e-7, rtol=1e-4)


def test_stablemax_known_value():
    """s = (2, 1/2, 1), p = (4, 1, 2) / 7."""
    expected = torch.tensor([4 / 7, 1 / 7, 2 / 7]).log()
    torch.testing.assert_close(log_stablemax(torch.tensor([1.0, -1.0, 0.0])), expected)


def a_batch(seed=0, slots=4, cells=9):
    draw = generator(seed)
    logits = torch.randn(slots, cells, 12, generator=draw) * 3
    q_halt = torch.randn(slots, generator=draw)
    label = torch.randint(1, 12, (slots, cells), generator=draw)
    label[torch.rand(slots, cells, generator=draw) < 0.4] = IGNORE
    label[0] = torch.where(label[0] == IGNORE, IGNORE, logits[0].argmax(-1))  # slot 0 is right
    return logits, q_halt, label


@pytest.mark.parametrize("loss_type", ["stablemax", "softmax"])
def test_losses_equal_a_loop_over_samples_and_cells(loss_type):
    logits, q_halt, label = a_batch()
    losses = sequence_losses(logits, q_halt, label, loss_type=loss_type)
    for b in range(4):
        asked = [c for c in range(9) if label[b, c] != IGNORE]
        p = (
            reference_log_stablemax(logits[b])
            if loss_type == "stablemax"
            else torch.log_softmax(logits[b].double(), -1)
        )
        nll = [-p[c, label[b, c]].item() for c in asked]
        right = sum(int(logits[b, c].argmax() == label[b, c]) for c in asked)
        halt = 1 / (1 + math.exp(-q_halt[b].item()))
        exact = right == len(asked)
        assert losses.lm_B[b].item() == pytest.approx(sum(nll) / len(nll), rel=1e-5)
        assert losses.q_halt_B[b].item() == pytest.approx(
            -math.log(halt if exact else 1 - halt), rel=1e-5
        )
        assert losses.tokens_B[b].item() == len(asked)
        assert losses.correct_B[b].item() == right
        assert losses.exact_B[b].item() == exact
        assert losses.halt_right_B[b].item() == ((q_halt[b].item() >= 0) == exact)
    assert losses.exact_B.tolist() == [True, False, False, False]


def whole(logits, q_halt, label, kl):
    losses = sequence_losses(logits, q_halt, label)
    return total_loss(losses, {"kl": kl}, q_halt_weight=0.5, encoder_weights={"kl": 0.25})


def test_total_is_invariant_when_the_batch_is_duplicated():
    logits, q_halt, label = a_batch()
    kl = torch.rand(4, generator=generator(3))
    once = whole(logits, q_halt, label, kl)
    twice = whole(*(torch.cat([x, x]) for x in (logits, q_halt, label, kl)))
    torch.testing.assert_close(once, twice)
    losses = sequence_losses(logits, q_halt, label)
    by_hand = losses.lm_B.mean() + 0.5 * losses.q_halt_B.mean() + 0.25 * kl.mean()
    torch.testing.assert_close(once, by_hand)


def test_a_slot_without_labels_takes_no_part():
    logits, q_halt, label = a_batch()
    label[2] = IGNORE
    losses = sequence_losses(logits, q_halt, label)
    assert not losses.labelled_B[2]
    assert not losses.exact_B[2]
    kept = torch.tensor([0, 1, 3])
    alone = sequence_losses(logits[kept], q_halt[kept], label[kept])
    kl = torch.zeros(1)
    for both in (losses, alone):
        assert total_loss(
            both, {"kl": kl}, q_halt_weight=0.5, encoder_weights={"kl": 1.0}
        ) == pytest.approx(whole(logits[kept], q_halt[kept], label[kept], kl).item())


def test_unlabelled_cells_get_no_gradient_whatever_they_hold():
    logits, q_halt, label = a_batch()
    logits[label == IGNORE] = 1e30
    logits.requires_grad_()
    losses = sequence_losses(logits, q_halt, label)
    losses.mean(losses.lm_B).backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[label == IGNORE].any()
    assert logits.grad[label != IGNORE].abs().sum() > 0


def test_what_does_not_belong_together_is_refused():
    logits, q_halt, label = a_batch()
    with pytest.raises(ConfigError, match="not of the same slots"):
        sequence_losses(logits, q_halt[:3], label)
    losses = sequence_losses(logits, q_halt, label)
    with pytest.raises(ConfigError, match="reports kl and no weight"):
        total_loss(losses, {"kl": q_halt}, q_halt_weight=0.5, encoder_weights={})
