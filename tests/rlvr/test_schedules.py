"""The learning rate; SEPA's lambda: ramp, gate and controller, and a state that survives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.config import validate
from cupel.errors import AlgorithmicFailure, ConfigError, DataError
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from cupel.rlvr.schedules import (
    LearningRateShape,
    SepaSchedule,
    lambda_at,
    learning_rate,
    learning_rate_at,
    linear_lambda,
)


def run(schedule: SepaSchedule, rates: list[float], variance: float | None = 1.0) -> list[float]:
    used = []
    for step, rate in enumerate(rates):
        used.append(schedule.value(step))
        schedule = schedule.observe(rate, variance, step=step)
    return used


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (10, 0.0), (15, 0.05), (60, 0.5), (110, 1.0), (500, 1.0)]
)
def test_the_ramp(step: int, expected: float) -> None:
    assert linear_lambda(step, steps=100, delay=10) == pytest.approx(expected)


def test_a_ramp_of_no_steps_is_one_after_the_delay() -> None:
    assert [linear_lambda(step, steps=0, delay=2) for step in range(4)] == [0.0, 0.0, 1.0, 1.0]
    assert linear_lambda(0, steps=0, delay=0) == 1.0


@given(st.integers(0, 200), st.integers(0, 50), st.integers(0, 500))
def test_the_ramp_stays_inside_and_never_falls(steps: int, delay: int, step: int) -> None:
    here = linear_lambda(step, steps=steps, delay=delay)
    assert 0 <= here <= linear_lambda(step + 1, steps=steps, delay=delay) <= 1


def test_a_closed_gate_is_zero_and_an_open_one_stays_open() -> None:
    schedule = SepaSchedule(steps=10, delay=0, gate=0.1)
    used = run(schedule, [0.0, 0.09, 0.1, 0.0, 0.0])
    assert used == pytest.approx([0.0, 0.0, 0.0, 0.3, 0.4])


def test_the_step_that_opens_the_gate_still_used_zero() -> None:
    """The lambda used and the lambda logged are the same number."""
    schedule = SepaSchedule(steps=0, delay=0, gate=0.5)
    after = schedule.observe(0.9, None, step=0)
    assert (schedule.value(0), schedule.gate_open) == (0.0, False)
    assert (after.value(1), after.gate_open) == (1.0, True)


@pytest.mark.parametrize("gate", [0.0, -1.0])
def test_a_gate_at_or_below_zero_is_always_open(gate: float) -> None:
    assert run(SepaSchedule(steps=2, delay=0, gate=gate), [0.0] * 4) == [0.0, 0.5, 1.0, 1.0]


def test_re_anchoring_starts_the_ramp_at_the_opening() -> None:
    rates = [0.0] * 60 + [0.5] * 5
    jumping = run(SepaSchedule(steps=100, delay=10, gate=0.1), rates)
    anchored = run(SepaSchedule(steps=100, delay=10, gate=0.1, reanchor=True), rates)
    assert jumping[61] == pytest.approx(0.51)
    assert anchored[61:] == pytest.approx([0.0, 0.01, 0.02, 0.03])


def test_re_anchoring_never_shortens_the_delay() -> None:
    schedule = SepaSchedule(steps=10, delay=5, gate=0.1, reanchor=True)
    assert run(schedule, [1.0] * 8) == pytest.approx([0.0] * 6 + [0.1, 0.2])


def test_the_controller_counts_batches_and_opens_below_its_threshold() -> None:
    schedule = SepaSchedule(
        steps=10_000, delay=0, auto=True, gate=0.0, ema_decay=0.5, threshold=0.2, warmup=3
    )
    for step in range(3):
        assert schedule.variance_reference is None
        schedule = schedule.observe(0.0, 8.0, step=step)
    assert schedule.variance_reference == 8.0
    assert schedule.value(3) == pytest.approx(3e-4)
    for step in range(3, 7):  # the average falls to 8 / 16 = 0.5, a ratio of 1/16 to the reference
        schedule = schedule.observe(0.0, 0.0, step=step)
    assert schedule.variance_average == 0.5
    assert schedule.value(7) == pytest.approx(1 - (1 / 16) / 0.2)


def test_the_controller_never_falls_below_the_ramp() -> None:
    schedule = SepaSchedule(steps=10, delay=0, auto=True, gate=0.0, warmup=1)
    schedule = schedule.observe(0.0, 1.0, step=0)
    assert schedule.value(5) == 0.5


def test_batches_without_execution_tokens_leave_the_controller_alone() -> None:
    schedule = SepaSchedule(steps=10, delay=0, auto=True, warmup=2)
    assert schedule.observe(0.0, None, step=0) == schedule


def test_a_reference_variance_of_zero_does_not_divide_by_zero() -> None:
    schedule = SepaSchedule(steps=10, delay=0, auto=True, gate=0.0, warmup=1)
    assert schedule.observe(0.0, 0.0, step=0).value(1) == 1.0


@pytest.mark.parametrize(("rate", "variance"), [(float("nan"), 1.0), (0.5, float("inf"))])
def test_observations_that_are_not_finite_are_refused(rate: float, variance: float) -> None:
    with pytest.raises(AlgorithmicFailure, match="step 4"):
        SepaSchedule(steps=1, delay=0).observe(rate, variance, step=4)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e3)), min_size=2, max_size=30),
    st.data(),
)
def test_a_schedule_restored_from_json_continues_exactly(
    seen: list[tuple[float, float]], data: st.DataObject
) -> None:
    fresh = SepaSchedule(steps=20, delay=2, auto=True, gate=0.6, reanchor=True, warmup=3)
    stop = data.draw(st.integers(0, len(seen)))
    unbroken = broken = fresh
    for step, (rate, variance) in enumerate(seen):
        if step == stop:
            broken = fresh.restore(json.loads(json.dumps(broken.state())))
        assert broken.value(step) == unbroken.value(step)
        unbroken = unbroken.observe(rate, variance, step=step)
        broken = broken.observe(rate, variance, step=step)
    assert broken == unbroken


def test_a_state_with_other_keys_is_refused() -> None:
    schedule = SepaSchedule(steps=1, delay=0)
    with pytest.raises(DataError, match="the checkpoint holds"):
        schedule.restore({"opened_at": 3})


def test_the_config_reaches_the_schedule_and_the_planner() -> None:
    data = {
        "backend": "toy",
        "sepa_steps": 20,
        "sepa_delay_steps": 4,
        "sepa_schedule": "auto",
        "sepa_correct_rate_gate": 0.3,
        "sepa": {"ema_decay": 0.5, "threshold": 0.4, "warmup": 7, "reanchor": True},
    }
    config = validate(TrainConfig, with_backend_defaults(data), where="test")
    assert SepaSchedule.from_config(config) == SepaSchedule(
        steps=20,
        delay=4,
        auto=True,
        gate=0.3,
        reanchor=True,
        ema_decay=0.5,
        threshold=0.4,
        warmup=7,
    )
    assert lambda_at(14, config) == 0.5


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.775, 0.55, 0.325]),
        ("cosine", [0.5, 1.0, 1.0, 0.868198, 0.55, 0.231802]),
    ],
)
def test_the_rate_warms_up_and_falls_towards_its_floor(
    shape: LearningRateShape, expected: list[float]
) -> None:
    rates = [
        learning_rate(step, peak=1.0, steps=6, shape=shape, warmup=2, floor=0.1)
        for step in range(6)
    ]
    assert rates == pytest.approx(expected, abs=1e-6)


@given(
    st.integers(1, 300),
    st.sampled_from(["constant", "linear", "cosine"]),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_rate_is_positive_reaches_its_peak_and_never_rises_again(
    steps: int, shape: LearningRateShape, warm_share: float, floor: float
) -> None:
    warmup = int(warm_share * (steps - 1))
    rates = [
        learning_rate(step, peak=2.0, steps=steps, shape=shape, warmup=warmup, floor=floor)
        for step in range(steps)
    ]
    assert max(rates) == rates[warmup] == 2.0
    assert min(rates) > 0
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert all(rate >= floor * 2.0 - 1e-12 for rate in rates[warmup:])


def test_a_run_reads_its_rate_from_its_config() -> None:
    data = {"backend": "toy", "lr": 8.0, "max_steps": 4, "lr_schedule": "linear"}
    config = validate(TrainConfig, with_backend_defaults(data), where="here")
    assert [learning_rate_at(step, config) for step in range(4)] == [8.0, 6.0, 4.0, 2.0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_steps": 4, "lr_warmup_steps": 4}, "would never reach lr"),
        ({"lr_min_ratio": 0.1}, "does not fall"),
    ],
)
def test_a_rate_that_contradicts_itself_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        validate(TrainConfig, with_backend_defaults({"backend": "toy", **settings}), where="here")
