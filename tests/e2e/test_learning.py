"""The shipped model really learns: from its starting band to far above it in 25 steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.config import validate
from cupel.lab import StudyConfig, execute_study, load_recipe, plan_study, read_study, write_plan

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one seed under GRPO and under the full pipeline."""
    data = {
        "name": "learning",
        "seeds": [11],
        "config": {"backend": "tiny", "max_steps": 25, "save_every": 0, "log_tokens": True},
        "conditions": [
            {"label": "grpo", "config": {"algorithm": "grpo"}},
            {"label": "full", "config": {"algorithm": "full"}},
        ],
    }
    study = validate(StudyConfig, data, where="test")
    folder = tmp_path_factory.mktemp("learning") / "study"
    write_plan(plan_study(study, load_recipe(study.recipe)), folder)
    execute_study(folder, executor="inline")
    return folder


@pytest.mark.parametrize("arm", ["grpo", "full"])
def test_accuracy_rises_from_the_expected_start(study: Path, arm: str) -> None:
    run = read_study(study).run(arm, 11)
    assert run.status == "done", run.failure
    evaluations = run.rows("evaluations.jsonl")
    assert 0.15 <= evaluations[0]["accuracy"] <= 0.25
    assert evaluations[-1]["accuracy"] >= 0.6


def test_on_policy_ratio_is_one_and_the_sampler_is_the_policy(study: Path) -> None:
    for row in read_study(study).run("full", 11).rows("metrics.jsonl"):
        assert row["ratio_mean"] == pytest.approx(1.0, abs=1e-6)
        assert row["sampler_ratio_mean"] == pytest.approx(1.0, abs=1e-4)
        assert 0 <= row["sampler_kl"] < 1e-6


def test_checkpoint_hash_and_start_are_in_the_record(study: Path) -> None:
    run = read_study(study).run("grpo", 11)
    build = json.loads(
        (
            Path(__file__).parents[2] / "src/cupel/policy/assets/tiny-arithmetic/build.json"
        ).read_text()
    )
    events = " ".join(str(event) for event in run.events)
    assert build["weights_sha256"] in events
    assert run.result is not None
    assert run.result["values"]["accuracy_start"] == run.rows("evaluations.jsonl")[0]["accuracy"]


def test_entropy_is_that_of_the_distribution_and_not_the_surprisal(study: Path) -> None:
    rows = read_study(study).run("full", 11).rows("emergence/generations.jsonl")[:200]
    entropies = [h for row in rows for h in row["entropies"]]
    surprisals = [-p for row in rows for p in row["logprobs"]]
    assert len(entropies) == len(surprisals)
    # Both estimate the same mean; single values differ.
    mean_h, mean_s = sum(entropies) / len(entropies), sum(surprisals) / len(surprisals)
    assert mean_s == pytest.approx(mean_h, rel=0.15)
    assert max(abs(h - s) for h, s in zip(entropies, surprisals, strict=True)) > 0.5


def test_planning_tokens_exist_where_sepa_needs_them(study: Path) -> None:
    for row in read_study(study).run("full", 11).rows("metrics.jsonl"):
        assert row["planning_token_rate"] > 0.1
    last = read_study(study).run("full", 11).rows("metrics.jsonl")[-1]
    assert last["sepa_lambda"] == pytest.approx((24 - 5) / 30)
    assert last["post_exec_entropy_var"] < last["exec_entropy_var"]
