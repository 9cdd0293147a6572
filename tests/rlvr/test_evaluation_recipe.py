"""A checkpoint evaluated: as the training itself did, in parts, resumed to the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import ConfigError, DataError, GateFailure
from cupel.lab import RunFolder, comparable_bytes, execute_run, load_recipe, plan_run
from cupel.lab.checkpoint import Checkpoints
from cupel.lab.files import read_json, read_json_lines
from cupel.policy.protocol import Completions
from cupel.policy.toy_policy import ToyPolicy
from cupel.rlvr.evaluation_config import EvaluateConfig, changes, settings_of, with_defaults
from cupel.rlvr.evaluation_recipe import parts, read_scores
from cupel.rlvr.trained import find_checkpoint, open_training
from tests.rlvr.toy_runs import Ran, toy_config, toy_run

RECIPE = "cupel.rlvr.evaluation_recipe:RECIPE"
SHARED_KEYS = (
    "accuracy",
    "greedy_accuracy",
    "problems",
    "samples",
    "correct_count",
    "incorrect_count",
    "ungradable_count",
    "completion_length_mean",
    "max_token_hit_rate",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A toy training with checkpoints of steps 2 and 4, evaluated at both by itself."""
    return toy_run(
        tmp_path_factory.mktemp("trained") / "run",
        seed=3,
        save_every=2,
        evaluation={"samples": 4, "every": 2, "pass_at": [1, 2, 4], "greedy": True},
    )


def evaluation(folder: Path, *, seed: int = 3, fresh: bool = True, **settings: Any) -> Ran:
    """Plan and execute one evaluation."""
    if fresh:
        spec = plan_run(load_recipe(RECIPE), RECIPE, passed=settings, seed=seed, condition="e")
        RunFolder(folder).create(spec)
    execute_run(folder, fsync=False)
    return Ran(folder=folder)


def problem_rows(ran: Ran) -> list[dict[str, Any]]:
    return read_json_lines(ran.folder / "evaluation_problems.jsonl")


@pytest.mark.parametrize("step", [2, 4])
def test_a_checkpoint_scores_what_its_training_wrote_at_that_step(
    trained: Ran, tmp_path: Path, step: int
) -> None:
    path = find_checkpoint(trained.folder, step)
    ran = evaluation(tmp_path / "e", checkpoint=str(path), policy={"sample_rows": 8})
    assert len(ran.steps) == 5  # 8 problems greedily, then twice 4 of them at a time: 1 + 4
    (theirs,) = [row for row in trained.evaluations if row["step"] == step]
    (ours,) = ran.evaluations
    keys = (*SHARED_KEYS, "pass@1", "pass@2", "pass@4")
    assert {key: ours[key] for key in keys} == {key: theirs[key] for key in keys}
    assert ours["step"] == step
    for stream in ("evaluation_problems.jsonl", "evaluation_rates.jsonl"):
        rows = read_json_lines(trained.folder / stream)
        assert [row for row in rows if row["step"] == step] == read_json_lines(ran.folder / stream)
    assert ran.result["accuracy"] == theirs["accuracy"]
