"""A checkpoint evaluated: as the training itself did, in parts, resumed to the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import ConfigError, DataError
from cupel.lab import RunFolder, comparable_bytes, execute_run, load_recipe, plan_run
from cupel.lab.files import read_json_lines
from cupel.policy.built import SHOP
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from cupel.rlvr.evaluation_config import (
    EvaluateConfig,
    changes,
    laid_over,
    settings_of,
    with_defaults,
)
from cupel.rlvr.evaluation_recipe import parts
from cupel.rlvr.trained import find_checkpoint, open_training
from cupel.stats.pass_at_k import pass_at_k
from tests.rlvr.toy_runs import Ran, toy_config, toy_run

RECIPE = "cupel.rlvr.evaluation_recipe:RECIPE"
OWN: dict[str, Any] = {"samples": 4, "every": 2, "pass_at": [1, 2, 4], "greedy": True}
SHARED_KEYS = (
    "accuracy",
    "greedy_accuracy",
    "problems",
    "samples",
    "correct_count",
    "incorrect_count",
    "ungradable_count",
    "grader_failure_count",
    "completion_length_mean",
    "max_token_hit_rate",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A toy training with checkpoints of steps 2 and 4, evaluated at both by itself."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return toy_run(folder, seed=3, save_every=2, evaluation=OWN)


def evaluation(folder: Path, *, seed: int = 3, recipe: str = RECIPE, **settings: Any) -> Ran:
    """Plan and execute one evaluation."""
    spec = plan_run(load_recipe(recipe), recipe, passed=settings, seed=seed, condition="e")
    RunFolder(folder).create(spec)
    execute_run(folder, fsync=False)
    return Ran(folder=folder)


def rows(folder: Path, stream: str) -> list[dict[str, Any]]:
    return read_json_lines(folder / stream)


def same_evaluation(trained: Ran, ran: Ran, step: int, *keys: str) -> None:
    """Assert that an evaluation found, to the bit, what the training had found at that step."""
    (theirs,) = [row for row in trained.evaluations if row["step"] == step]
    (ours,) = ran.evaluations
    names = (*SHARED_KEYS, *keys)
    assert {key: ours[key] for key in names} == {key: theirs[key] for key in names}
    assert ours["step"] == step
    for stream in ("evaluation_problems.jsonl", "evaluation_rates.jsonl"):
        found = [row for row in rows(trained.folder, stream) if row["step"] == step]
        assert found == rows(ran.folder, stream)


@pytest.mark.parametrize("step", [2, 4])
def test_a_checkpoint_scores_what_its_training_wrote_at_that_step(
    trained: Ran, tmp_path: Path, step: int
) -> None:
    path = find_checkpoint(trained.folder, step)
    ran = evaluation(tmp_path / "e", checkpoint=str(path), policy={"sample_rows": 8})
    assert len(ran.steps) == 5  # 8 problems greedily, then twice 4 samples of 2 of them at a time
    same_evaluation(trained, ran, step, "pass@1", "pass@2", "pass@4")
    (row,) = ran.evaluations
    assert ran.result["accuracy"] == row["accuracy"]
    assert ran.result["weights_sha256"] == row["weights_sha256"]


def test_a_run_stands_for_its_newest_checkpoint(trained: Ran, tmp_path: Path) -> None:
    ran = evaluation(tmp_path / "e", checkpoint=str(trained.folder))
    same_evaluation(trained, ran, 4)
    assert ran.result["weights_sha256"] == trained.result["weights_sha256"]


def test_the_tiny_model_too_in_parts(tmp_path: Path) -> None:
    asked = {"problems": 24, "samples": 2, "pass_at": [1, 2], "every": 1, "start_band": None}
    folder = tmp_path / "run"
    trained = toy_run(
        folder,
        backend="tiny",
        max_steps=2,
        batch_size=2,
        group_size=4,
        save_every=1,
        policy={"sample_rows": 8},
        evaluation=asked,
    )
    assert trained.state["status"] == "done", trained.state["failure"]
    for step in (1, 2):
        path = str(find_checkpoint(folder, step))
        ran = evaluation(tmp_path / f"e{step}", seed=1, checkpoint=path)
        assert len(ran.steps) == 3 + 6
        same_evaluation(trained, ran, step, "pass@1", "pass@2")
    start = evaluation(tmp_path / "e0", seed=1, **settings_at_the_start(folder))
    same_evaluation(trained, start, 0)
    refused = evaluation(tmp_path / "b", checkpoint=path, model=str(SHOP))
    assert refused.state["failure"]["kind"] == "usage"
    assert "weights of another model" in refused.state["failure"]["message"]


def settings_at_the_start(folder: Path) -> dict[str, Any]:
    """Return the settings that ask the untrained model as the training did."""
    return settings_of(open_training(folder).config)


def test_pass_at_k_comes_from_the_counts_of_the_problems(trained: Ran, tmp_path: Path) -> None:
    asked = {"samples": 6, "pass_at": [3, 6]}
    ran = evaluation(tmp_path / "e", checkpoint=str(trained.folder), evaluation=asked)
    counts = rows(ran.folder, "evaluation_problems.jsonl")
    completions = ran.generations
    assert len(completions) == 8 * 6
    for problem in counts:
        own = [row for row in completions if row["problem_id"] == problem["problem_id"]]
        assert [row["sample"] for row in own] == list(range(6))
        assert sum(row["correct"] is True for row in own) == problem["correct_count"]
        assert sum(row["correct"] is None for row in own) == problem["ungradable_count"]
    right = [row["correct_count"] for row in counts]
    for k in (3, 6):
        assert ran.evaluations[0][f"pass@{k}"] == pass_at_k(right, [6] * 8, k).mean()
    assert "pass@1" not in ran.evaluations[0]


def test_more_samples_keep_the_first_ones(trained: Ran, tmp_path: Path) -> None:
    few, many = (
        evaluation(tmp_path / f"{n}", checkpoint=str(trained.folder), evaluation={"samples": n})
        for n in (4, 7)
    )
    first = [row for row in many.generations if row["sample"] < 4]
    assert [row["completion"] for row in few.generations] == [row["completion"] for row in first]
    other = evaluation(tmp_path / "other", seed=4, checkpoint=str(trained.folder))
    texts = [row["completion"] for row in other.generations]
    assert texts != [row["completion"] for row in few.generations]


@pytest.mark.parametrize("attribute", ["AFTER_ONE", "AFTER_THREE"])
def test_an_interrupted_evaluation_ends_in_the_same_bytes(
    trained: Ran, tmp_path: Path, attribute: str
) -> None:
    asked = {"checkpoint": str(trained.folder), "policy": {"sample_rows": 4}}
    whole = evaluation(tmp_path / "whole", **asked)
    broken = tmp_path / "broken"
    name = f"tests.rlvr.interrupted_recipes:{attribute}"
    with pytest.raises(KeyboardInterrupt):
        evaluation(broken, recipe=name, **asked)
    assert not (broken / "evaluations.jsonl").read_bytes()
    with (broken / "emergence/generations.jsonl").open("a") as torn:
        torn.write('{"step":0,"problem_id":"half a r')
    assert execute_run(broken, fsync=False) == "done"
    assert comparable_bytes(broken) == comparable_bytes(whole.folder)
    assert Ran(folder=broken).result == whole.result
    (broken / "result.json").unlink()  # killed at the very end: only the counting is done again
    assert execute_run(broken, fsync=False) == "done"
    assert comparable_bytes(broken) == comparable_bytes(whole.folder)


def test_parts_cover_every_problem_once() -> None:
    config = toy_config(
        evaluation={"problems": 7, "samples": 3, "greedy": True}, policy={"sample_rows": 7}
    )
    found = [(part.decoding, part.first, part.last) for part in parts(config)]
    sampled = [("sampled", first, min(first + 2, 7)) for first in (0, 2, 4, 6)]
    assert found == [("greedy", 0, 7), *sampled]
    large = toy_config(evaluation={"samples": 99, "problems": 2}, policy={"sample_rows": 8})
    assert [part.last - part.first for part in parts(large)] == [1, 1]


def test_what_is_asked_otherwise_is_said(trained: Ran, tmp_path: Path) -> None:
    asked = {"evaluation": {"samples": 5}, "problems": {"prompt_template": "{problem}?"}}
    ran = evaluation(tmp_path / "e", checkpoint=str(trained.folder), **asked)
    said = [row["message"] for row in rows(ran.folder, "events.jsonl")]
    assert [line.split(":")[0] for line in said[1:4]] == ["policy", "grader", "prompt template"]
    assert said[4:] == [
        "changed: problems.prompt_template = {problem}? (the run: plain)",
        "changed: evaluation.samples = 5 (the run: 4)",
    ]
    assert said[0].startswith("evaluates step 4 of run, weights ")
    unchanged = evaluation(tmp_path / "u", checkpoint=str(trained.folder))
    assert len(rows(unchanged.folder, "events.jsonl")) == 4


def test_everything_else_is_as_in_training(trained: Ran) -> None:
    training = open_training(trained.folder)
    config = validate(
        EvaluateConfig, with_defaults({"checkpoint": str(trained.folder)}), where="here"
    )
    assert changes(config, training.config) == []
    assert config.as_training.evaluation.pass_at == (1, 2, 4)
    assert config.as_training.max_tokens == training.config.max_tokens == 4


def test_another_source_brings_its_own_columns(tmp_path: Path) -> None:
    settings = {
        "backend": "torch",
        "model": "own",
        "problems": {"source": "jsonl", "path": "p.jsonl", "prompt_template": "Q: {problem}"},
    }
    train = validate(TrainConfig, with_backend_defaults(settings), where="here")
    base = settings_of(train)
    found = laid_over(base, {"problems": {"source": "arithmetic"}})["problems"]
    assert found == {"source": "arithmetic", "prompt_template": "Q: {problem}"}
    plain = {**base, "problems": {**base["problems"], "prompt_template": "plain"}}
    found = laid_over(plain, {"problems": {"source": "arithmetic"}})["problems"]
    assert found == {"source": "arithmetic"}
    same = laid_over(base, {"problems": {"answer_field": "gold"}})["problems"]
    assert (same["path"], same["answer_field"]) == ("p.jsonl", "gold")


def test_one_process_evaluates_whole_what_several_trained_in_parts() -> None:
    training = TrainConfig.model_validate({"policy": {"shard": "layers", "sample_rows": 7}})
    asked = validate(EvaluateConfig, settings_of(training), where="here")
    assert (asked.policy.shard, asked.policy.sample_rows) == ("none", 7)


def test_a_damaged_or_other_checkpoint_is_refused(trained: Ran, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    path = find_checkpoint(folder)
    planned = with_defaults({"checkpoint": str(path)})
    with pytest.raises(DataError, match="another checkpoint than the one that was asked for"):
        with_defaults({"checkpoint": str(path), "checkpoint_sha256": "0" * 64})
    with pytest.raises(ConfigError, match="a checkpoint of backend 'toy'; leave backend out"):
        with_defaults({"checkpoint": str(path), "backend": "tiny"})
    with pytest.raises(DataError, match=r"no checkpoint of step 3; it kept those of 2, 4"):
        find_checkpoint(folder, 3)
    with (path / "toy.json").open("a") as more:
        more.write(" ")
    with pytest.raises(DataError, match=r"toy.json was changed or damaged"):
        with_defaults({"checkpoint": str(path)})
    assert (
        planned["checkpoint_sha256"]
        == with_defaults({"checkpoint": str(find_checkpoint(trained.folder))})["checkpoint_sha256"]
    )


def test_a_training_done_again_is_not_evaluated_in_its_stead(tmp_path: Path) -> None:
    folder, target = tmp_path / "run", tmp_path / "e"
    toy_run(folder, seed=1, save_every=4)
    spec = plan_run(
        load_recipe(RECIPE), RECIPE, passed={"checkpoint": str(folder)}, seed=1, condition="e"
    )
    RunFolder(target).create(spec)
    shutil.rmtree(folder)
    toy_run(folder, seed=2, save_every=4)
    assert execute_run(target, fsync=False) == "failed"
    failure = RunFolder(target).state()["failure"]
    assert failure["kind"] == "usage"
    assert "another checkpoint than the one this evaluation was planned for" in failure["message"]


def test_a_run_without_checkpoints_says_why(tmp_path: Path) -> None:
    toy_run(tmp_path / "none", save_every=0)
    with pytest.raises(DataError, match="kept no checkpoint: it was trained with save_every = 0"):
        find_checkpoint(tmp_path / "none")
    toy_run(tmp_path / "early", save_every=9)
    with pytest.raises(DataError, match=r"none is written yet \(save_every = 9, max_steps = 4\)"):
        find_checkpoint(tmp_path / "early")
    with pytest.raises(DataError, match=r"no run folder; name the folder of an rlvr.train run"):
        find_checkpoint(tmp_path)
    config = tmp_path / "none/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "recipe": "arc.train"}))
    with pytest.raises(DataError, match=r"a run of arc.train"):
        find_checkpoint(tmp_path / "none")


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"samples": 2, "pass_at": [8]}, "pass@8 needs at least 8 samples a problem, samples = 2"),
        ({"samples": 4, "pass_at": [0]}, "different whole numbers >= 1"),
        ({"samples": 4, "pass_at": [2, 2]}, "different whole numbers >= 1"),
    ],
)
def test_a_k_that_cannot_be_estimated_is_refused(evaluation: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        toy_config(evaluation=evaluation)
