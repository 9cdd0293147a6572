"""The training loop on the toy policy: what it writes, what it learns, where it stops."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.lab import execute_run
from cupel.policy.toy_policy import ToyPolicy
from cupel.rlvr.metrics import EVALUATIONS, METRICS
from cupel.rlvr.train import open_state, save, train_step
from tests.rlvr.toy_runs import Ran, toy_config, toy_context, toy_run

CONDITIONS: dict[str, dict[str, Any]] = {
    "grpo+none": {"advantage_mode": "grpo", "transform_mode": "none"},
    "maxrl+none": {"advantage_mode": "maxrl", "transform_mode": "none"},
    "maxrl+gtpo": {"advantage_mode": "maxrl", "transform_mode": "gtpo"},
    "maxrl+gtpo_hicra": {"advantage_mode": "maxrl", "transform_mode": "gtpo_hicra"},
    "maxrl+gtpo_sepa": {"advantage_mode": "maxrl", "transform_mode": "gtpo_sepa"},
}
RAMP = {"sepa_delay_steps": 0, "sepa_steps": 4, "sepa_correct_rate_gate": 0.0}


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Run all five conditions on one seed."""
    root = tmp_path_factory.mktemp("five")
    return {label: toy_run(root / label, **RAMP, **modes) for label, modes in CONDITIONS.items()}


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    timings = {metric.name for metric in (*METRICS, *EVALUATIONS) if not metric.reproducible}
    return {key: value for key, value in row.items() if key not in {*names, *timings}}


def test_every_step_leaves_a_row_with_every_declared_key(five: dict[str, Ran]) -> None:
    for label, ran in five.items():
        assert ran.state["status"] == "done"
        assert [row["step"] for row in ran.steps] == [0, 1, 2, 3]
        assert [row["step"] for row in ran.emergence] == [0, 1, 2, 3]
        assert all(list(row) == [metric.name for metric in METRICS] for row in ran.steps)
        declared = [metric.name.replace("@k", "@1") for metric in EVALUATIONS]
        assert all(list(row) == declared for row in ran.evaluations)
        assert {row["algorithm"] for row in ran.steps} == {label}


def test_a_batch_without_a_mixed_group_is_a_row_too(tmp_path: Path) -> None:
    """A boxed answer takes three tokens, so two never hold one: every group is all wrong."""
    problems = {"source": "toy", "grading": "boxed"}
    ran = toy_run(tmp_path, problems=problems, max_tokens=2, save_every=1)
    assert ran.state["status"] == "done"
    assert [row["step"] for row in ran.steps] == [0, 1, 2, 3]
    for row in ran.steps:
        assert row["status"] == "skipped"
        assert (row["groups_all_wrong"], row["groups_mixed"]) == (8, 0)
        assert (row["num_datums"], row["trained_tokens"], row["correct_rate"]) == (0, 0, 0.0)
        for name in ("loss", "grad_norm", "ratio_mean", "ratio_max", "clip_fraction"):
            assert row[name] is None
        assert row["exec_token_count"] > 0
        assert row["exec_entropy_var"] is not None
    tables = [(tmp_path / f"checkpoints/step_00000{n}/logits.npy").read_bytes() for n in (3, 4)]
    assert tables[0] == tables[1]
    assert len(ran.generations) == 4 * 64


def test_conditions_of_one_seed_see_the_same_first_batch(five: dict[str, Ran]) -> None:
    first = {
        label: [row for row in ran.generations if row["step"] == 0] for label, ran in five.items()
    }
    assert all(rows == first["grpo+none"] for rows in first.values())
    orders = {label: [row["problem_id"] for row in ran.generations] for label, ran in five.items()}
    assert all(order == orders["grpo+none"] for order in orders.values())


def test_seeds_and_replicates_see_different_samples(tmp_path: Path, five: dict[str, Ran]) -> None:
    base = five["maxrl+gtpo_sepa"].generations
    other_seed = toy_run(tmp_path / "seed", seed=2, **RAMP).generations
    replicate = toy_run(tmp_path / "replicate", replicate=1, **RAMP).generations
    texts = [[row["completion"] for row in rows] for rows in (base, other_seed, replicate)]
    assert texts[0] != texts[1] != texts[2] != texts[0]
    assert [row["prompt"] for row in base] == [row["prompt"] for row in replicate]


def test_token_statistics_are_one_function_of_the_batch(five: dict[str, Ran]) -> None:
    names = [
        *("exec_entropy_mean", "exec_entropy_var", "plan_entropy_mean", "plan_entropy_var"),
        *("exec_token_count", "plan_token_count", "planning_token_rate", "correct_rate"),
    ]
    rows = [ran.steps[0] for ran in five.values()]
    assert rows[0]["plan_token_count"] > 0
    assert rows[0]["exec_entropy_var"] > 0
    for row in rows[1:]:
        assert [row[name] for name in names] == [rows[0][name] for name in names]


def test_every_transform_changes_the_update(five: dict[str, Ran]) -> None:
    gradients = {label: ran.steps[0]["grad_norm"] for label, ran in five.items()}
    assert gradients["maxrl+gtpo"] == gradients["maxrl+gtpo_sepa"]  # lambda is 0 in step 0
    del gradients["maxrl+gtpo_sepa"]
    assert len(set(gradients.values())) == 4, gradients
    last = {label: ran.steps[-1]["grad_norm"] for label, ran in five.items()}
    assert len(set(last.values())) == 5, last


@pytest.mark.parametrize(
    "identity",
    [
        {"transform_mode": "gtpo", "gtpo_beta": 0.0},
        {"transform_mode": "gtpo_hicra", "gtpo_beta": 0.0, "hicra_alpha": 0.0},
    ],
)
def test_a_transform_at_zero_is_no_transform(
    tmp_path: Path, five: dict[str, Ran], identity: dict[str, Any]
) -> None:
    ran = toy_run(tmp_path, **RAMP, advantage_mode="maxrl", **identity)
    plain = five["maxrl+none"]
    assert ran.record["emergence/generations.jsonl"] == plain.record["emergence/generations.jsonl"]
    for row, other in zip(ran.steps, plain.steps, strict=True):
        labels = ("algorithm", "transform_mode")
        assert without(row, *labels, "loss", "grad_norm") == without(
            other, *labels, "loss", "grad_norm"
        )
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-12)


def test_the_logged_lambda_is_the_one_that_pooled(five: dict[str, Ran]) -> None:
    for label, ran in five.items():
        ramp = [0.0, 0.25, 0.5, 0.75] if label == "maxrl+gtpo_sepa" else [0.0] * 4
        assert [row["sepa_lambda"] for row in ran.steps] == ramp
        assert [row["sepa_lambda"] for row in ran.emergence] == ramp
        assert all(row["sepa_gate_open"] for row in ran.steps)
    for row in five["maxrl+gtpo_sepa"].steps[1:]:
        assert row["post_exec_entropy_var"] < row["exec_entropy_var"]
    for row in five["maxrl+gtpo"].steps:
        assert row["post_exec_entropy_var"] == pytest.approx(row["exec_entropy_var"])


def test_the_gate_opens_for_the_step_after_the_first_good_batch(tmp_path: Path) -> None:
    ran = toy_run(
        tmp_path, **(RAMP | {"sepa_correct_rate_gate": 0.2, "sepa_steps": 8}), max_steps=8
    )
    good = [row["correct_rate"] >= 0.2 for row in ran.steps]
    first = good.index(True)
    assert 0 < first < 7
    for row in ran.steps:
        assert row["sepa_gate_open"] == (row["step"] > first)
        assert row["sepa_lambda"] == (row["step"] / 8 if row["step"] > first else 0.0)


def test_a_closed_gate_keeps_lambda_at_zero(tmp_path: Path) -> None:
    closed = toy_run(tmp_path / "closed", sepa_steps=0, sepa_correct_rate_gate=1.0, max_steps=2)
    opened = toy_run(tmp_path / "open", sepa_steps=0, sepa_correct_rate_gate=0.0, max_steps=2)
    assert [row["sepa_lambda"] for row in closed.steps] == [0.0, 0.0]
    assert [row["sepa_gate_open"] for row in closed.steps] == [False, False]
    assert [row["sepa_lambda"] for row in opened.steps] == [1.0, 1.0]
    assert closed.steps[0]["grad_norm"] != opened.steps[0]["grad_norm"]


def test_the_toy_policy_learns(tmp_path: Path) -> None:
    ran = toy_run(tmp_path, max_steps=20, evaluation={"samples": 16})
    first, last = ran.evaluations[0], ran.evaluations[-1]
    assert first["accuracy"] < 0.2
    assert last["accuracy"] > 0.9
    assert ran.steps[-1]["correct_rate"] > 0.9


def test_several_updates_of_one_batch_leave_the_old_policy(tmp_path: Path) -> None:
    ppo = {"loss": {"kind": "ppo"}, "advantage_mode": "maxrl", "transform_mode": "gtpo"}
    once = toy_run(tmp_path / "once", max_steps=2, **ppo).steps
    thrice = toy_run(tmp_path / "thrice", max_steps=2, updates_per_batch=3, **ppo).steps
    assert once[0]["ratio_mean"] == 1.0
    assert once[0]["clip_fraction"] == 0.0
    assert thrice[0]["ratio_max"] > 1.0
    assert thrice[0]["clip_fraction"] > 0.0
    for name in ("correct_rate", "exec_entropy_var", "num_datums", "trained_tokens"):
        assert once[0][name] == thrice[0][name]
    assert once[1]["exec_entropy_mean"] != thrice[1]["exec_entropy_mean"]


@pytest.fixture
def defective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the recipes with a defect importable by name."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parent)])


@pytest.mark.usefixtures("defective")
@pytest.mark.parametrize("updates_per_batch", [1, 2])
@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("IN_SCORES", "scored rows against the sampler's own pass"),
        ("IN_UPDATE", "pi_new / pi_old of the first update"),
    ],
)
def test_misaligned_rows_never_reach_a_gradient(
    tmp_path: Path, where: str, says: str, updates_per_batch: int
) -> None:
    ran = toy_run(
        tmp_path,
        recipe=f"defective_recipes:{where}",
        loss={"kind": "ppo"},
        updates_per_batch=updates_per_batch,
    )
    assert ran.state["status"] == "failed"
    failure = ran.state["failure"]
    assert failure["kind"] == "gate"
    assert failure["message"].startswith(f"ratio gate: {says}: mean ratio ")
    assert "Likely cause: " in failure["message"]
    assert failure["traceback"] is None
    assert ran.steps == []
    assert not (tmp_path / "result.json").exists()


@pytest.mark.usefixtures("defective")
def test_a_policy_of_ones_own_trains_like_the_named_one(tmp_path: Path) -> None:
    own = toy_run(tmp_path / "own", recipe="defective_recipes:NOWHERE")
    named = toy_run(tmp_path / "named")
    assert own.state["status"] == "done"
    for stream in ("metrics.jsonl", "emergence/generations.jsonl"):
        assert own.record[stream] == named.record[stream]


@pytest.mark.usefixtures("defective")
def test_a_diverged_step_is_written_before_the_run_fails(tmp_path: Path) -> None:
    ran = toy_run(tmp_path, recipe="defective_recipes:DIVERGES")
    assert ran.state["status"] == "failed"
    failure = ran.state["failure"]
    assert (failure["kind"], failure["step"]) == ("algorithmic", 2)
    assert failure["message"] == "metrics.jsonl step 2: loss is nan"
    assert [row["loss"] is None for row in ran.steps] == [False, False, True]
    assert ran.steps[-1]["status"] == "trained"
    assert [row["step"] for row in ran.emergence] == [0, 1, 2]
    assert len(ran.generations) == 3 * 64
    assert not (tmp_path / "result.json").exists()


def test_a_wrong_start_is_refused_before_any_step(tmp_path: Path) -> None:
    evaluation = {"samples": 4, "start_band": [0.5, 0.9]}
    ran = toy_run(tmp_path, evaluation=evaluation)
    assert ran.state["status"] == "failed"
    assert ran.state["failure"]["kind"] == "gate"
    assert "outside evaluation.start_band [0.5, 0.9]" in ran.state["failure"]["message"]
    assert ran.steps == []
    assert [row["step"] for row in ran.evaluations] == [0]
    assert toy_run(tmp_path / "wide", evaluation={"start_band": [0, 1]}).state["status"] == "done"


def test_a_state_continues_to_the_same_bytes(tmp_path: Path) -> None:
    """Auto schedule, delayed gate: everything that changes must pass through the checkpoint."""
    settings: dict[str, Any] = {
        "max_steps": 9,
        "save_every": 2,
        "sepa_schedule": "auto",
        "sepa_steps": 100,
        "sepa": {"warmup": 2, "ema_decay": 0.5, "threshold": 2.0, "reanchor": True},
        "evaluation": {"samples": 2, "every": 3},
    }
    whole = toy_run(tmp_path / "whole", **settings)
    assert any(0 < row["sepa_lambda"] < 1 for row in whole.steps[6:])
    broken = toy_run(tmp_path / "broken", **settings)
    (broken.folder / "result.json").unlink()
    newest = sorted((broken.folder / "checkpoints").iterdir())
    assert [path.name for path in newest] == ["step_000006", "step_000008"]
    (newest[-1] / "logits.npy").write_bytes(b"torn")
    assert execute_run(broken.folder, fsync=False) == "done"
    events = [event["message"] for event in broken.state["events"]]
    assert "continued from the checkpoint of step 6" in events
    assert broken.record == whole.record
    assert broken.result == whole.result


def test_a_checkpoint_holds_all_that_changes(tmp_path: Path) -> None:
    config = toy_config(sepa_schedule="auto", sepa={"warmup": 1})
    context = toy_context(tmp_path)
    state = open_state(config, context, ToyPolicy(seed=1))
    for step in range(3):
        train_step(state, config, context, step)
        state.next_step = step + 1
    save(state, context)
    resumed = context.checkpoints.latest()
    assert resumed is not None
    again = open_state(config, replace(context, resume=resumed), ToyPolicy(seed=99))
    assert again.next_step == 3
    assert again.sepa == state.sepa
    assert again.sepa.variance_reference is not None
    assert (again.correct_total, again.sampled_total) == (state.correct_total, 3 * 64)
    assert again.policy.weights_sha256() == state.policy.weights_sha256()
    context.recorder.close()


def test_evaluations_come_before_between_and_after(tmp_path: Path) -> None:
    ran = toy_run(tmp_path, max_steps=5, evaluation={"samples": 2, "every": 2, "greedy": True})
    assert [row["step"] for row in ran.evaluations] == [0, 2, 4, 5]
    for row in ran.evaluations:
        total = row["correct_count"] + row["incorrect_count"] + row["ungradable_count"]
        assert total == row["problems"] * row["samples"] == 16
        assert row["accuracy"] == row["correct_count"] / 16
        assert 0 <= row["greedy_accuracy"] <= 1


def test_running_rate_counts_from_the_first_step(tmp_path: Path) -> None:
    steps = toy_run(tmp_path).steps
    counts = np.cumsum([row["correct_count"] for row in steps])
    totals = np.cumsum([row["total_count"] for row in steps])
    assert [row["running_correct_rate"] for row in steps] == pytest.approx(counts / totals)


def test_the_schedule_is_logged_and_is_what_steps_are_taken_with(tmp_path: Path) -> None:
    plain = toy_run(tmp_path / "plain", lr=8.0)
    falls = toy_run(tmp_path / "falls", lr=8.0, lr_schedule="linear")
    warm = toy_run(tmp_path / "warm", lr=8.0, lr_warmup_steps=2)
    assert [row["learning_rate"] for row in plain.steps] == [8.0] * 4
    assert [row["learning_rate"] for row in falls.steps] == [8.0, 6.0, 4.0, 2.0]
    assert [row["learning_rate"] for row in warm.steps] == [4.0, 8.0, 8.0, 8.0]
    norms = [[row["grad_norm"] for row in ran.steps] for ran in (plain, falls, warm)]
    assert norms[0][:2] == norms[1][:2]  # the first steps are equal; the third batch differs
    assert norms[0][2] != norms[1][2]
    assert norms[0][0] == norms[2][0]
    assert norms[0][1] != norms[2][1]
