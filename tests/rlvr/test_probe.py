"""A probe of a training run: what it measures, what it says of the whole, where it stops."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import DataError, RunError, UsageError
from cupel.lab import RunFolder, execute_run, load_recipe, plan_run, read_jsonl
from cupel.lab.estimate import Measured
from cupel.lab.plan import RunSpec
from cupel.lab.probe import run_probe
from cupel.rlvr.forecast import forecast
from cupel.rlvr.probe import estimate_run
from cupel.rlvr.train import RECIPE
from tests.cli.conftest import Invoke, cupel, says_one_line
from tests.rlvr.toy_runs import SMALL, toy_config, toy_context

__all__ = ["cupel"]


def spec_of(**settings: Any) -> RunSpec:
    return plan_run(load_recipe("rlvr.train"), "rlvr.train", passed=settings, seed=1)


def a_step(seconds: float, completions: int = 64, tokens: int = 128) -> Measured:
    counts = {
        "completions": completions,
        "tokens": tokens,
        "asked": 64,
        "sample_s": seconds / 2,
        "train_s": seconds / 2,
    }
    return Measured(what="step", seconds=seconds, counts=counts)


def test_the_estimate_is_what_the_hand_adds_up() -> None:
    """8 x 8 completions a step, 10 steps, 2 evaluations of 8 problems x 2 samples, no greedy."""
    config = toy_config(max_steps=10, evaluation={"samples": 2, "every": 10, "problems": 8})
    measured = [
        Measured(what="start", seconds=3.0),
        a_step(5.0),
        a_step(1.0),
        a_step(2.0),
        Measured(what="evaluation", seconds=0.8, counts={"completions": 8, "length_mean": 3.0}),
    ]
    found = estimate_run(config, measured)
    evaluations = 2 * 16 * 0.1
    assert found.seconds.expected == pytest.approx(3.0 + 3.5 + 10 * 1.5 + evaluations)
    assert found.seconds.low == pytest.approx(3.0 + 10 * 1.0 + evaluations / 2)
    # completions are 2 of 4 tokens long: at worst everything takes twice as long
    assert found.seconds.high == pytest.approx(3.0 + 3.5 + 2 * (10 * 5.0 + evaluations))
    assert found.tokens is not None
    assert found.tokens.expected == pytest.approx(10 * 128 + 2 * 16 * 3.0)
    assert found.tokens.high == forecast(config).costs["sampled tokens"]


def test_another_condition_costs_by_its_completions() -> None:
    measured = [a_step(1.0), a_step(1.0)]
    once = {"samples": 1, "problems": 1, "every": 99}
    small = estimate_run(toy_config(max_steps=10, evaluation=once), measured)
    large = estimate_run(toy_config(max_steps=10, group_size=16, evaluation=once), measured)
    assert large.seconds.expected == pytest.approx(2 * small.seconds.expected, rel=0.01)
    assert any("no evaluation was reached" in text for text in small.assumptions)


def test_rounds_of_resampling_are_counted() -> None:
    measured = [a_step(2.0, completions=128, tokens=256)] * 3
    once = {"samples": 1, "problems": 1, "every": 99}
    plain = estimate_run(toy_config(max_steps=10, evaluation=once), measured)
    more = {"uninformative_groups": "resample", "resample_rounds": 4}
    twice = estimate_run(toy_config(max_steps=10, evaluation=once, **more), measured)
    assert plain.seconds.expected == pytest.approx(10 * 1.0, rel=0.01)
    assert twice.seconds.expected == pytest.approx(10 * 2.0, rel=0.01)


def test_no_step_is_no_estimate() -> None:
    with pytest.raises(DataError, match="took no step"):
        estimate_run(toy_config(), [Measured(what="start", seconds=1.0)])


def test_a_probe_measures_each_part_in_order(tmp_path: Path) -> None:
    context = toy_context(tmp_path)
    with context.recorder:
        measured = list(RECIPE.probe(toy_config(), context))
    assert [each.what for each in measured] == ["start", "step", "step", "step", "evaluation"]
    assert all(each.seconds > 0 for each in measured)
    assert measured[1].counts["completions"] == 64
    assert measured[-1].counts["completions"] == 16


def test_a_probe_in_a_process_of_its_own_measures_it_too() -> None:
    probe = run_probe(spec_of(**SMALL))
    assert probe.complete
    assert [each.what for each in probe.measured] == ["start", "step", "step", "step", "evaluation"]
    assert probe.import_s > 0
    assert probe.peak_bytes > 2**24
    assert probe.wall_s > sum(each.seconds for each in probe.measured)


def test_the_estimate_of_a_toy_run_is_near_its_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_near(spec_of(**{**SMALL, "max_steps": 300}), tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_estimate_of_a_tiny_run_is_near_its_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Mapping[str, Any] = {
        "backend": "tiny",
        "max_steps": 20,
        "evaluation": {"problems": 128, "every": 10, "start_band": None},
    }
    assert_near(spec_of(**settings), tmp_path, monkeypatch)


def assert_near(spec: RunSpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that a run costs between a third and three times what its probe said.

    On this process's own CPU clock: a busy machine stretches seconds on the wall many times over.
    """
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    config = validate(RECIPE.config_type, spec.resolved, where="here")
    for module in RECIPE.forecast(config).preload:
        importlib.import_module(module)
    context = toy_context(folder / "probe")
    with context.recorder:
        estimate = RECIPE.estimate(config, list(RECIPE.probe(config, context)))
    RunFolder(folder / "run").create(spec)
    started = time.process_time()
    assert execute_run(folder / "run", fsync=False) == "done"
    took = time.process_time() - started
    assert estimate.seconds.low < estimate.seconds.expected < estimate.seconds.high
    assert 1 / 3 < took / estimate.seconds.expected < 3
    sampled = sum(row["sampled_tokens"] for row in read_jsonl(folder / "run" / "metrics.jsonl"))
    assert estimate.tokens is not None
    assert 1 / 3 < sampled / estimate.tokens.expected < 3


def test_a_run_that_fails_is_told() -> None:
    spec = spec_of(**SMALL)
    broken = {**spec.resolved, "strategic_grams": ["  "]}
    with pytest.raises(RunError, match=r"probe of condition 'run': .*has no word"):
        run_probe(RunSpec(**{**fields(spec), "resolved": broken}))


def fields(spec: RunSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in RunSpec.__dataclass_fields__}


def test_a_deadline_ends_the_probe() -> None:
    with pytest.raises(UsageError, match=r"no step ended within 0.01 s; raise --probe-seconds"):
        run_probe(spec_of(**SMALL), deadline_s=0.01)


def test_a_recipe_without_a_probe_is_refused() -> None:
    spec = spec_of(**SMALL)
    other = RunSpec(**{**fields(spec), "recipe": "arc.train"})
    with pytest.raises(UsageError, match=r"'arc.train' does not say how to probe it"):
        run_probe(other)


STUDY = """
name = "toy"
seeds = [1, 2, 3]

[config]
backend = "toy"
max_steps = 5

[[conditions]]
label = "short"

[[conditions]]
label = "long"
config = { max_steps = 9 }
"""


def test_a_plan_tells_its_estimate_and_leaves_no_rows(cupel: Invoke) -> None:
    Path("toy.toml").write_text(STUDY)
    shown = cupel("plan", "toy.toml", "--probe", "--workers", "2")
    assert shown.exit_code == 0, shown.output
    assert "probed long, seed 1: 3 steps in a temporary folder" in shown.stdout
    assert "6 runs, 2 at a time" in shown.stdout
    assert "assumed: checkpoints are not counted" in shown.stdout
    assert not list(Path("results/toy/runs").rglob("*.jsonl"))
    told = json.loads(cupel("plan", "toy.toml", "--probe", "--executor", "inline", "--json").stdout)
    estimate = told["estimate"]
    assert estimate["probed"]["condition"] == "long"
    seconds, tokens = estimate["study"]["seconds"], estimate["study"]["tokens"]
    assert 0 < seconds["low"] <= seconds["expected"] <= seconds["high"]
    assert tokens["low"] <= tokens["expected"] <= tokens["high"] == told["costs"]["sampled tokens"]
    assert estimate["study"]["workers"] == 1
    assert estimate["probe"]["gpu_bytes"] is None


def test_a_plan_without_a_probe_estimates_nothing(cupel: Invoke) -> None:
    Path("toy.toml").write_text(STUDY)
    assert json.loads(cupel("plan", "toy.toml", "--json").stdout)["estimate"] is None
    assert "probed" not in cupel("plan", "toy.toml").stdout


def test_a_cluster_needs_its_number_of_workers(cupel: Invoke) -> None:
    Path("toy.toml").write_text(STUDY)
    says_one_line(cupel("plan", "toy.toml", "--probe", "--executor", "slurm"), "give --workers")


def test_the_probe_runs_where_it_is_told_to(cupel: Invoke) -> None:
    Path("toy.toml").write_text(STUDY)
    result = cupel("plan", "toy.toml", "--probe", "--device", "cuda")
    assert result.exit_code == 3
    assert "given device 'cuda'" in result.stderr
