"""Every named algorithm trains on the toy policy through the recipe; resampling; the reference."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.errors import ConfigError
from cupel.lab import Randomness, execute_run
from cupel.policy.toy_policy import ToyPolicy
from cupel.rlvr.advantages import advantages
from cupel.rlvr.algorithms import ALGORITHMS
from cupel.rlvr.batch import sample_training_batch
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.forecast import REFERENCE_BACKENDS, forecast
from cupel.rlvr.metrics import METRICS
from cupel.rlvr.problems import ToyProblems
from cupel.rlvr.shaping import Shaping, improve
from tests.rlvr.toy_runs import Ran, toy_config, toy_run

THREE: dict[str, Any] = {"max_steps": 3, "sepa_steps": 0, "sepa_correct_rate_gate": 0.0}
MODES: dict[str, dict[str, Any]] = {
    "reinforce_pp_baseline": {
        "advantage_mode": "reinforce_pp_baseline",
        "transform_mode": "none",
    },
    "gtpo_paper": {"advantage_mode": "grpo", "transform_mode": "gtpo_paper"},
    "gtpo_outcome": {
        "advantage_mode": "grpo",
        "transform_mode": "gtpo_paper",
        "gtpo_normalize": "outcome",
    },
    "gtpo_surprisal": {
        "advantage_mode": "grpo",
        "transform_mode": "gtpo_paper",
        "uncertainty_kind": "surprisal",
    },
    "entropy_mask": {"advantage_mode": "grpo", "transform_mode": "entropy_mask"},
    "kl": {"algorithm": "grpo", "loss": {"kl_coef": 0.1}},
    "corrected": {
        "algorithm": "grpo",
        "temperature": 0.7,
        "loss": {"sampler_correction": "truncate", "sampler_cap": 1.01},
    },
}
ALL: dict[str, dict[str, Any]] = {name: {"algorithm": name} for name in ALGORITHMS} | MODES


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Three steps of every algorithm on one seed."""
    root = tmp_path_factory.mktemp("algorithms")
    return {name: toy_run(root / name, **THREE, **settings) for name, settings in ALL.items()}


def column(ran: Ran, name: str) -> list[Any]:
    return [row[name] for row in ran.steps]


@pytest.mark.parametrize("name", ALL)
def test_an_algorithm_trains_and_its_gates_hold(runs: dict[str, Ran], name: str) -> None:
    ran = runs[name]
    assert ran.state["status"] == "done"
    assert column(ran, "step") == [0, 1, 2]
    assert all(list(row) == [metric.name for metric in METRICS] for row in ran.steps)
    assert column(ran, "status") == ["trained"] * 3
    assert column(ran, "ratio_mean") == [1.0] * 3
    assert column(ran, "clip_fraction") == [0.0] * 3
    assert all(norm > 0 for norm in column(ran, "grad_norm")) == (name != "gtpo_outcome")


def test_methods_of_their_own_make_updates_of_their_own(runs: dict[str, Ran]) -> None:
    """On the same first batch; one update a batch has no clip to tell losses apart by."""
    elsewhere = ("dapo", "corrected", "gtpo_paper", "gtpo_outcome")
    first = {name: ran.steps[0] for name, ran in runs.items() if name not in elsewhere}
    assert len({row["correct_rate"] for row in first.values()}) == 1
    norms = {name: row["grad_norm"] for name, row in first.items()}
    # the reference is where training begins, so the first penalty has no gradient
    assert norms.pop("kl") == pytest.approx(norms["grpo"], rel=1e-6)
    assert len({round(norm, 12) for norm in norms.values()}) == len(norms), norms


def test_gtpo_of_the_paper_needs_completions_that_differ_in_uncertainty(
    runs: dict[str, Ran],
) -> None:
    """The toy policy is equally uncertain at a position, whatever came before: nothing to weigh.

    The paper's own normalisation then takes all there is: it no longer knows who succeeded.
    """
    grpo, weighed = runs["grpo"].steps[0], runs["gtpo_paper"].steps[0]
    assert weighed["grad_norm"] == pytest.approx(grpo["grad_norm"], rel=1e-6)
    assert column(runs["gtpo_outcome"], "grad_norm") == [0.0] * 3
    warned = forecast(toy_config(**MODES["gtpo_outcome"])).warnings
    assert any("no longer told apart" in text for text in warned)


@pytest.mark.parametrize("name", ["reinforce_pp", "dr_grpo", "dapo", "gspo", "cispo"])
def test_more_updates_a_batch_bring_the_clip_into_play(tmp_path: Path, name: str) -> None:
    ran = toy_run(tmp_path, **THREE, algorithm=name, updates_per_batch=3, lr=400.0)
    assert ran.state["status"] == "done"
    assert max(column(ran, "clip_fraction")) > 0
    assert any(ratio != 1.0 for ratio in column(ran, "ratio_mean"))


@pytest.fixture
def defective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the recipes with a defect importable by name."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parent)])


@pytest.mark.usefixtures("defective")
@pytest.mark.parametrize("name", ["gspo", "dapo", "gtpo_paper", "entropy_mask"])
@pytest.mark.parametrize("where", ["IN_SCORES", "IN_UPDATE"])
def test_misaligned_rows_are_refused_under_every_kind_of_credit(
    tmp_path: Path, name: str, where: str
) -> None:
    ran = toy_run(tmp_path, recipe=f"defective_recipes:{where}", **ALL[name])
    assert ran.state["failure"]["kind"] == "gate"
    assert ran.steps == []


def test_columns_are_missing_where_there_is_nothing_to_measure(runs: dict[str, Ran]) -> None:
    owners = {
        "reference_kl": ["kl"],
        "sampler_truncated_rate": ["corrected"],
        "entropy_threshold": ["entropy_mask"],
        "credited_token_rate": ["entropy_mask"],
        "overlong_penalty_mean": ["dapo"],
    }
    for name, known in owners.items():
        for run, ran in runs.items():
            present = [value is not None for value in column(ran, name)]
            assert present == [run in known] * 3, (name, run)


def test_the_entropy_mask_credits_its_share(runs: dict[str, Ran]) -> None:
    """Tokens as uncertain as the threshold are all kept, and the toy policy has many such."""
    for row in runs["entropy_mask"].steps:
        assert 0.2 <= row["credited_token_rate"] < 0.5
        assert row["entropy_threshold"] > 0


def test_the_penalty_grows_with_the_distance_from_the_reference(tmp_path: Path) -> None:
    loose = toy_run(tmp_path / "loose", algorithm="grpo", loss={"kl_coef": 1e-9}, max_steps=6)
    tight = toy_run(tmp_path / "tight", algorithm="grpo", loss={"kl_coef": 0.05}, max_steps=6)
    assert column(loose, "reference_kl")[0] == pytest.approx(0.0, abs=1e-9)
    assert column(loose, "reference_kl")[-1] > column(loose, "reference_kl")[1] > 0
    assert column(tight, "reference_kl")[-1] < column(loose, "reference_kl")[-1]


def test_the_correction_weighs_by_the_sampler(tmp_path: Path, runs: dict[str, Ran]) -> None:
    assert all(0 < rate < 1 for rate in column(runs["corrected"], "sampler_truncated_rate"))
    settings = {**THREE, "algorithm": "grpo", "temperature": 0.7}
    plain = toy_run(tmp_path, **settings)
    assert column(plain, "sampler_kl")[0] == column(runs["corrected"], "sampler_kl")[0]
    assert column(plain, "grad_norm")[0] != column(runs["corrected"], "grad_norm")[0]


def test_the_correction_changes_nothing_when_the_sampler_is_the_policy(
    tmp_path: Path, runs: dict[str, Ran]
) -> None:
    ran = toy_run(tmp_path, **THREE, algorithm="grpo", loss={"sampler_correction": "truncate"})
    assert column(ran, "grad_norm") == pytest.approx(column(runs["grpo"], "grad_norm"), rel=1e-5)
    assert column(ran, "sampler_truncated_rate") == [0.0] * 3


RESAMPLE: dict[str, Any] = {
    "advantage_mode": "maxrl",
    "transform_mode": "none",
    "uninformative_groups": "resample",
    "lr": 1e-3,
}


def test_groups_are_sampled_until_enough_differ(tmp_path: Path) -> None:
    ran = toy_run(tmp_path, **RESAMPLE, resample_rounds=4, batch_size=4, max_steps=12)
    rounds = column(ran, "sampling_rounds")
    assert set(rounds) <= {1, 2, 3, 4}
    assert len(set(rounds)) > 1
    for row in ran.steps:
        generations = [one for one in ran.generations if one["step"] == row["step"]]
        assert len(generations) == row["total_count"] == 4 * 8 * row["sampling_rounds"]
        assert sum(one["num_tokens"] for one in generations) == row["sampled_tokens"]
        assert sum(one["correct"] is True for one in generations) == row["correct_count"]
        groups = row["groups_mixed"] + row["groups_all_right"] + row["groups_all_wrong"]
        assert groups == 4 * row["sampling_rounds"]
        assert row["groups_trained"] == min(row["groups_mixed"], 4)
        assert row["num_datums"] == 8 * row["groups_trained"]
        assert row["groups_trained"] == 4 or row["sampling_rounds"] == 4


def test_the_first_round_is_the_batch_of_a_run_without_resampling(tmp_path: Path) -> None:
    plain = toy_run(tmp_path / "drop", **{**RESAMPLE, "uninformative_groups": "drop"}, max_steps=1)
    again = toy_run(tmp_path / "resample", **RESAMPLE, max_steps=1)
    assert again.steps[0]["sampling_rounds"] > 1
    names = ("problem_id", "completion", "reward")
    short, long = (
        [[row[name] for name in names] for row in ran.generations] for ran in (plain, again)
    )
    assert long[: len(short)] == short
    assert len(long) == len(short) * again.steps[0]["sampling_rounds"]
    assert long[len(short) : 2 * len(short)] != short


def test_only_the_first_groups_that_differ_are_trained_on() -> None:
    config = toy_config(**RESAMPLE, batch_size=2, group_size=2, resample_rounds=5)
    batch = sample_training_batch(
        ToyPolicy(seed=2), ToyProblems(config.problems), config, Randomness(5), step=0
    )
    assert batch.rounds > 1
    rewards_PG = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 1], [0, 0]], dtype=float)
    shaping = Shaping(
        config=config,
        advantages_N=advantages("maxrl", rewards_PG).reshape(-1),
        planning_NT=np.zeros((12, 3), bool),
        mask_NT=np.ones((12, 3), bool),
        sepa_lambda=0.0,
    )
    assert shaping.trained_N.reshape(-1, 2)[:, 0].tolist() == [0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "dapo", "updates_per_batch": 2},
        {"algorithm": "grpo", "loss": {"kl_coef": 0.05}},
        {"transform_mode": "gtpo_paper", "advantage_mode": "rloo"},
    ],
    ids=["dapo", "kl", "gtpo_paper"],
)
def test_a_run_continues_to_the_same_bytes(tmp_path: Path, settings: dict[str, Any]) -> None:
    shared = {"max_steps": 6, "save_every": 2, **settings}
    whole = toy_run(tmp_path / "whole", **shared)
    broken = toy_run(tmp_path / "broken", **shared)
    (broken.folder / "result.json").unlink()
    newest = sorted((broken.folder / "checkpoints").iterdir())[-1]
    (newest / "logits.npy").write_bytes(b"torn")
    assert execute_run(broken.folder, fsync=False) == "done"
    assert broken.record == whole.record
    assert broken.result == whole.result


def test_a_backend_without_a_reference_is_refused() -> None:
    assert ToyPolicy.capabilities.reference == ("toy" in REFERENCE_BACKENDS)
    config = toy_config(loss={"kl_coef": 0.1})

    policy = ToyPolicy(seed=1)
    policy.capabilities = replace(policy.capabilities, reference=False)  # type: ignore[misc]
    batch = sample_training_batch(
        policy, ToyProblems(config.problems), config, Randomness(1), step=0
    )
    mask_NT = batch.completions.mask_NT
    shaping = Shaping(
        config=config,
        advantages_N=advantages("maxrl", batch.rewards_PG).reshape(-1),
        planning_NT=np.zeros(mask_NT.shape, bool),
        mask_NT=mask_NT,
        sepa_lambda=0.0,
    )
    with pytest.raises(ConfigError, match="keeps its first weights, and backend 'toy' keeps none"):
        improve(policy, batch.completions, shaping, gate=False)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"algorithm": "dapo"}, "the ratio is 1, no clip ever acts"),
        ({"advantage_mode": "grpo", "loss": {"kind": "gspo"}}, "hardly leaves 1"),
    ],
)
def test_a_loss_that_would_not_act_is_warned_of(settings: dict[str, Any], says: str) -> None:
    assert any(says in text for text in forecast(toy_config(**settings)).warnings)
    twice = toy_config(**{"updates_per_batch": 2, **settings})
    assert not any("no clip ever acts" in text for text in forecast(twice).warnings)


def test_the_costs_of_resampling_bound_the_run(tmp_path: Path) -> None:
    settings = {**RESAMPLE, "resample_rounds": 2, "max_steps": 3}
    found = forecast(toy_config(**settings))
    assert found.costs["training completions"] == 3 * 8 * 8 * 2
    assert any("up to 2 rounds of 8 problems" in note for note in found.notes)
    assert len(toy_run(tmp_path, **settings).generations) <= 3 * 8 * 8 * 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"transform_mode": "gtpo_paper"}, "one forward pass more a step"),
        (
            {"loss": {"kind": "gspo", "clip_eps": 3e-4}, "transform_mode": "gtpo"},
            "GSPO's token form",
        ),
    ],
)
def test_what_a_method_costs_or_becomes_is_noted(settings: dict[str, Any], says: str) -> None:
    config: TrainConfig = toy_config(**settings)
    assert any(says in note for note in forecast(config).notes)
    assert not any(says in note for note in forecast(toy_config()).notes)


def test_one_completion_a_problem_teaches_under_a_batch_baseline(tmp_path: Path) -> None:
    settings = {"algorithm": "reinforce_pp", "group_size": 1, "batch_size": 64}
    assert not any("group_size = 1" in text for text in forecast(toy_config(**settings)).warnings)
    ran = toy_run(tmp_path, **settings, max_steps=2)
    assert column(ran, "num_datums") == [64, 64]
