"""Back pressure: what it tries, where it settles, and that it never touches a result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cupel.config import validate
from cupel.errors import ConfigError, CupelError, DataError, PlanError
from cupel.policy.toy_policy import ToyPolicy
from cupel.rlvr.backpressure import BackPressure, machine_balance, regime_of, update_work
from cupel.rlvr.concurrency import in_force
from cupel.rlvr.config import BackPressureConfig, TrainConfig, with_backend_defaults
from cupel.rlvr.forecast import forecast
from cupel.rlvr.metrics import METRICS
from cupel.rlvr.scaling_law import ScalingFit, fit_scaling, throughput
from cupel.rlvr.train import open_state, save, train_step
from tests.rlvr.toy_runs import toy_config, toy_context, toy_run

ON = {"backpressure": {"enabled": True}}


def controller(**settings: Any) -> BackPressure:
    """Return the controller of a run with 8 x 8 completions: levels 8, 16, 32, 64."""
    made = BackPressure.from_config(toy_config(backpressure={"enabled": True, **settings}))
    assert made is not None
    return made


def driven(pressure: BackPressure, steps: int, sigma: float, kappa: float) -> list[BackPressure]:
    """Let a machine that obeys the law answer; return the controller after each step."""
    states = []
    for step in range(steps):
        x = float(throughput(np.array(float(pressure.level)), 10.0, sigma, kappa))
        pressure = pressure.observe(step, x)
        states.append(pressure)
    return states


def curve(sigma: float, kappa: float) -> ScalingFit:
    p = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    return fit_scaling(p.tolist(), throughput(p, 10.0, sigma, kappa).tolist())


def test_off_is_nothing() -> None:
    assert BackPressure.from_config(toy_config()) is None


def test_a_sweep_sees_every_level_and_then_aims_below_the_peak() -> None:
    states = driven(controller(), 12, sigma=0.02, kappa=0.98 / 40**2)
    assert states[0].observations == ()  # the first step pays for first use
    tried = [state.observations[-1].p for state in states[1:9]]
    assert sorted(tried) == [8, 8, 16, 16, 32, 32, 64, 64]
    last = states[-1]
    assert last.fit is not None
    assert last.fit.peak == pytest.approx(40.0, rel=1e-3)
    assert last.level == last.value == 32  # 0.85 * 40 = 34, in whole groups of 8
    row = last.reading(last.level, 100.0)
    assert (row.regime, row.action, row.warmup) == ("optimal", "hold", False)
    assert row.p_star == pytest.approx(40.0, rel=1e-3)
    assert row.utilization is not None
    assert 0.95 < row.utilization <= 1
    during = states[4].reading(8, 100.0)
    assert (during.regime, during.action, during.p_star) == ("warmup", "sweep", None)


def test_a_machine_that_never_slows_gets_the_ceiling() -> None:
    last = driven(controller(), 12, sigma=0.05, kappa=0.0)[-1]
    assert last.level == 64
    row = last.reading(64, 1.0)
    assert row.p_star is None  # missing, not infinite
    assert row.regime == "compute_bound"  # balance at 0.95 / 0.05 = 19


def test_a_peak_that_moves_down_throttles_and_one_that_moves_up_increases() -> None:
    settled = driven(controller(window=20), 12, sigma=0.02, kappa=0.98 / 40**2)[-1]
    slower = settled
    for step in range(12, 60):
        x = float(throughput(np.array(float(slower.level)), 10.0, 0.02, 0.98 / 12**2))
        slower = slower.observe(step, x)
    assert slower.held == 8
    faster = slower
    for step in range(60, 110):
        x = float(throughput(np.array(float(faster.level)), 10.0, 0.02, 0.98 / 64**2))
        faster = faster.observe(step, x)
    assert faster.held is not None
    assert faster.held > 16


def test_forgotten_levels_are_tried_again() -> None:
    states = driven(controller(window=30), 120, sigma=0.02, kappa=0.001)
    late = [state.observations[-1].p for state in states[60:]]
    assert set(late) == {8, 16, 24, 32, 64}  # 24 is held: 0.85 * 31.3 in groups of 8
    assert late.count(24) > len(late) / 2
    assert all(len(state.observations) <= 30 for state in states)


def test_regimes_follow_the_curve() -> None:
    peaked = curve(0.02, 0.98 / 40**2)
    assert regime_of(peaked, 41, margin=0.425) == "retrograde"
    assert regime_of(peaked, 40, margin=0.425) == "optimal"
    assert regime_of(peaked, 18, margin=0.425) == "optimal"
    assert regime_of(peaked, 8, margin=0.425) == "memory_bound"


def test_both_sides_of_the_roofline_can_be_reached() -> None:
    """A comparison of a ratio with GFLOP/s * 1e9 would answer memory_bound whatever the load."""
    balance = machine_balance(100.0, 20.0, 4)
    assert balance == 10.0  # 2 bytes a FLOP * 5 FLOP a byte
    assert machine_balance(100.0, 20.0, 2) == 5.0
    assert machine_balance(0.0, 20.0, 4) is machine_balance(100.0, 0.0, 4) is None
    endless = curve(0.02, 0.0)
    assert regime_of(endless, 9.9, margin=0.425, balance=balance) == "memory_bound"
    assert regime_of(endless, 10.0, margin=0.425, balance=balance) == "compute_bound"
    declared = controller(peak_gflops=100.0, peak_gb_per_s=20.0)
    assert declared.roofline == 10.0


def test_the_throughput_of_an_update_does_not_fall_with_the_rewards() -> None:
    """With a forward pass of 1 us and a backward pass of 2 us a token, the rate stays 1 a us."""
    for trained in (0, 500, 1000):
        seconds = (1000 + 2 * trained) * 1e-6
        assert update_work(1000, trained) / seconds == pytest.approx(1e6)


def test_a_batch_without_a_mixed_group_is_an_observation(tmp_path: Path) -> None:
    problems = {"source": "toy", "grading": "boxed"}
    ran = toy_run(tmp_path, problems=problems, max_tokens=2, max_steps=6, **ON)
    assert {row["status"] for row in ran.steps} == {"skipped"}
    assert all(row["bp_throughput"] > 0 for row in ran.steps)
    assert [row["bp_concurrency"] for row in ran.steps] == [8, 8, 16, 32, 64, 8]


def test_results_are_the_same_with_and_without(tmp_path: Path) -> None:
    settings = {"max_steps": 14, "save_every": 5, "log_tokens": True}
    plain = toy_run(tmp_path / "plain", **settings)
    pressed = toy_run(tmp_path / "pressed", **settings, **ON)
    assert pressed.state["status"] == "done"
    assert pressed.record == plain.record
    assert pressed.result == plain.result
    assert {row["bp_regime"] for row in plain.steps} == {"off"}
    assert all(row["bp_p_star"] is None and row["bp_warmup"] is None for row in plain.steps)
    last = pressed.steps[-1]
    assert last["bp_warmup"] is False
    assert last["bp_regime"] in {"optimal", "retrograde", "memory_bound", "compute_bound"}
    assert last["bp_action"] in {"hold", "throttle", "increase"}


def test_tokens_and_losses_of_a_language_model_are_the_same(tmp_path: Path) -> None:
    """Rows side by side change sampler log-probs in their last bits, and nothing else."""
    settings: dict[str, Any] = {
        "backend": "tiny",
        "max_steps": 7,
        "batch_size": 8,
        "group_size": 4,
        "max_tokens": 24,
        "evaluation": {"problems": 8, "samples": 1, "greedy": False, "start_band": None},
    }
    quick = {"backpressure": {"enabled": True, "warmup_steps": 4}}
    plain = toy_run(tmp_path / "plain", **settings)
    pressed = toy_run(tmp_path / "pressed", **settings, **quick)
    assert (
        pressed.record["emergence/generations.jsonl"] == plain.record["emergence/generations.jsonl"]
    )
    assert pressed.result["weights_sha256"] == plain.result["weights_sha256"]
    assert [row["loss"] for row in pressed.steps] == [row["loss"] for row in plain.steps]
    kl = [row["sampler_kl"] for row in pressed.steps]
    assert kl == pytest.approx([row["sampler_kl"] for row in plain.steps], abs=1e-6)
    assert [row["bp_concurrency"] for row in pressed.steps][:5] == [4, 4, 8, 16, 32]


def test_every_column_depends_on_the_machine_and_has_its_tracker_name() -> None:
    declared = {metric.name: metric for metric in METRICS if metric.name.startswith("bp_")}
    seeds = ("action", "regime", "p_star", "sigma", "kappa", "utilization", "throughput", "warmup")
    for name in seeds:
        metric = declared[f"bp_{name}"]
        assert metric.tracker_name == f"train/backpressure/{name}"
        assert not metric.reproducible


def test_a_restored_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config = toy_config(max_steps=12, **ON)
    context = toy_context(tmp_path)
    with context.recorder:
        state = open_state(config, context, ToyPolicy(seed=1))
        for step in range(11):
            train_step(state, config, context, step)
        state.next_step = 11
        save(state, context)
        resume = context.checkpoints.latest({})
        again = open_state(config, replace(context, resume=resume), ToyPolicy(seed=9))
    assert state.pressure is not None
    assert again.pressure is not None
    assert again.pressure == replace(state.pressure, cold=True)
    assert again.pressure.level == state.pressure.level
    assert len(again.pressure.observations) == 10


def test_the_state_is_plain_and_checked() -> None:
    last = driven(controller(), 12, sigma=0.02, kappa=0.001)[-1]
    state = json.loads(json.dumps(last.state()))
    assert replace(controller().restore(state), cold=False) == last
    with pytest.raises(DataError, match=r"holds \['held'\]"):
        controller().restore({"held": 8})


def test_the_batch_size_changes_only_when_asked_by_name(tmp_path: Path) -> None:
    ran = toy_run(tmp_path / "rows", max_steps=6, **ON)
    assert {row["total_count"] for row in ran.steps} == {64}
    by_name = {"enabled": True, "changes": "batch_size", "max_batch_size": 4}
    ran = toy_run(tmp_path / "batch", max_steps=5, backpressure=by_name)
    assert [row["total_count"] for row in ran.steps] == [8, 8, 16, 32, 8]
    told = forecast(toy_config(max_steps=5, backpressure=by_name))
    assert told.costs["training completions"] == 5 * 4 * 8
    assert any("runs do not repeat" in text for text in told.warnings)


def test_the_plan_says_what_is_tried() -> None:
    told = forecast(toy_config(**ON))
    assert "backpressure tries sample_rows at 8, 16, 32, 64 side by side" in told.notes
    torch = {"backend": "torch", "model": "m", "policy": {"microbatch_tokens": 8192}}
    update = {"enabled": True, "stage": "update"}
    data = with_backend_defaults({**torch, "backpressure": update})
    made = BackPressure.from_config(validate(TrainConfig, data, where="here"))
    assert made is not None
    assert made.levels == (512, 1024, 2048, 4096, 8192)
    narrower = validate(
        TrainConfig,
        with_backend_defaults({**torch, "backpressure": {**update, "max_concurrency": 3000}}),
        where="here",
    )
    found = BackPressure.from_config(narrower)
    assert found is not None
    assert found.levels == (187, 374, 748, 1496, 2992, 3000)


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        ({"batch_size": 2, **ON}, PlanError, "can only be 8 or 16"),
        (
            {"backpressure": {"enabled": True, "stage": "update"}},
            PlanError,
            "updated in one go",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    settings: dict[str, Any], kind: type[CupelError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        forecast(toy_config(**settings))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"min_batch_size": 9, "max_batch_size": 4}, "swap them"),
        ({"peak_gflops": 10.0}, "give both or neither"),
    ],
)
def test_settings_that_disagree_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BackPressureConfig(**settings)


def test_a_policy_without_the_setting_is_refused() -> None:
    class Fixed:
        """A policy whose concurrency nobody can set."""

    with pytest.raises(ConfigError, match="Fixed has no sample_rows"):
        in_force(controller(), Fixed(), toy_config())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no microbatch_tokens"):
        ToyPolicy().set_concurrency("microbatch_tokens", 8)
