"""Metrics tell what happened: at halt, in every slot, and in the context."""

from __future__ import annotations

import pytest
import torch

from cupel.arc.diagnostics import (
    Spread,
    Update,
    UpdateRatio,
    Window,
    context_statistics,
    gradient_coverage,
    read_scalars,
)
from cupel.arc.halting import Carry
from cupel.arc.losses import SequenceLosses
from cupel.arc.optimizer import GradientNorms
from cupel.lab.ranks import ALONE

CPU = torch.device("cpu")


def update(
    exact: torch.Tensor, steps: torch.Tensor, halted: torch.Tensor, q: torch.Tensor
) -> Update:
    one = torch.ones(())
    slots = len(exact)
    return Update(
        losses=SequenceLosses(
            lm_B=torch.full((slots,), 2.0),
            q_halt_B=torch.full((slots,), 0.5),
            labelled_B=torch.ones(slots, dtype=torch.bool),
            tokens_B=torch.full((slots,), 4),
            correct_B=torch.where(exact, 4, 3),
            exact_B=exact,
            halt_right_B=(q > 0) == exact,
        ),
        carry=Carry(
            z_H=torch.zeros(slots, 1, 1),
            z_L=torch.zeros(slots, 1, 1),
            steps=steps.int(),
            halted=halted,
        ),
        q_halt_B=q,
        loss=one * 3,
        kl_B=None,
        norms=GradientNorms(
            encoder=one * 0.3, inner=one * 0.4, total=one * 0.5, clipped=torch.tensor(True)
        ),
    )


def test_a_policy_of_known_exact_match_at_halt_is_measured_as_such() -> None:
    """90 % of items are solvable, at a geometric step; failures stay 16 steps in their slot."""
    rng, window, most, slots = torch.Generator().manual_seed(0), Window(CPU), 16, 512
    age, solved_at = torch.zeros(slots), torch.zeros(slots)
    fresh = torch.ones(slots, dtype=torch.bool)
    for _ in range(160):
        uniform = torch.rand(slots, generator=rng)
        when = torch.ceil(
            torch.log(torch.rand(slots, generator=rng)) / torch.log(torch.tensor(0.5))
        )
        when = torch.where(uniform < 0.9, when.clamp(1, most), torch.tensor(999.0))
        solved_at, age = torch.where(fresh, when, solved_at), torch.where(fresh, 0.0, age) + 1
        exact = age >= solved_at
        fresh = exact | (age >= most)
        window.add(update(exact, age, fresh, torch.where(exact, 1.0, -1.0)))
    means = window.read(ALONE)
    assert means["em_at_halt"] == pytest.approx(0.90, abs=0.01)
    assert means["train/exact_accuracy"] < 0.35  # slots of every age
    assert means["steps_at_halt"] == pytest.approx(0.9 * 2 + 0.1 * 16, abs=0.15)
    assert means["forced_fraction"] == pytest.approx(0.10, abs=0.01)


def test_means_are_over_slots_items_and_updates() -> None:
    window = Window(CPU)
    exact, q = torch.tensor([True, False]), torch.tensor([2.0, -2.0])
    window.add(update(exact, torch.tensor([1, 3]), torch.tensor([True, False]), q))
    window.add(update(exact, torch.tensor([1, 4]), torch.tensor([True, True]), q))
    means = window.read(ALONE)
    p = torch.sigmoid(torch.tensor(2.0)).item()
    expected = {
        "train/accuracy": 0.875,
        "train/exact_accuracy": 0.5,
        "train/lm_loss": 2.0,
        "train/steps": 2.25,
        "train/count": 2.0,
        "train/q_halt_accuracy": 1.0,
        "grad/encoder_norm": 0.3,
        "grad/clip_rate": 1.0,
        "loss": 3.0,
        "em_at_halt": 2 / 3,
        "em_at_halt_n": 3.0,
        "steps_at_halt": 2.0,
        "forced_fraction": 1 / 3,
        "q_calibration_error": 1 - p,
        "q_brier": (1 - p) ** 2,
    }
    for name, value in expected.items():
        assert means[name] == pytest.approx(value, abs=1e-6), name
    assert means["kl"] is None


def test_a_window_starts_anew_and_says_nothing_of_nothing() -> None:
    window = Window(CPU)
    window.add(update(torch.tensor([True]), torch.ones(1), torch.tensor([True]), torch.ones(1)))
    window.read(ALONE)
    means = window.read(ALONE)
    assert means["train/accuracy"] is None
    assert means["em_at_halt"] is None


def test_context_statistics_are_over_what_their_names_say() -> None:
    alike = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0)).expand(5, 3, 8)
    values = read_scalars(context_statistics(alike))
    assert values["train/encoder_cross_sample_var"] == pytest.approx(0, abs=1e-10)
    assert values["train/encoder_token_std"] == pytest.approx(0, abs=1e-6)
    assert values["encoder_position_std"] > 0.5
    context = torch.stack([torch.ones(2, 4), -torch.ones(2, 4)])
    values = read_scalars(context_statistics(context))
    assert values["train/encoder_cross_sample_var"] == pytest.approx(1.0)
    assert values["train/encoder_output_norm"] == pytest.approx(2.0)
    assert values["encoder_position_std"] == pytest.approx(0.0)
    assert read_scalars(context_statistics(context[:1]))["train/encoder_cross_sample_var"] is None


def test_coverage_is_the_share_of_slots_with_a_gradient() -> None:
    gradient = torch.zeros(4, 2, 3)
    gradient[1, 0, 0] = gradient[2, 1, 2] = -1e-9
    coverage = gradient_coverage(gradient)
    assert coverage is not None
    assert coverage.item() == 0.5
    assert gradient_coverage(None) is None


def test_the_update_ratio_is_relative_to_the_weights() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    ratio = UpdateRatio([weight])
    with torch.no_grad():
        weight += torch.tensor([0.3, 0.4])
    measured = ratio.measure()
    assert measured is not None
    assert measured.item() == pytest.approx(0.1)
    assert UpdateRatio([]).measure() is None


def test_the_between_task_share_is_that_of_an_analysis_of_variance() -> None:
    def share(vectors: torch.Tensor, groups: list[int]) -> float | None:
        spread = Spread.empty(3, vectors.shape[1], CPU)
        for start in (0, 2):
            spread.add(vectors[start : start + 2], torch.tensor(groups[start : start + 2]))
        return spread.between_share()

    by_task = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert share(by_task, [0, 0, 2, 2]) == pytest.approx(1.0)
    assert share(by_task, [0, 2, 0, 2]) == pytest.approx(0.0)
    assert share(by_task, [0, 0, 0, 0]) is None
    assert share(torch.ones(4, 2), [0, 0, 2, 2]) is None
