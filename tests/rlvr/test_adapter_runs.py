"""Runs that train adapters on a model folder: by command line, stopped and continued."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="needs the extra 'lora'"
)

from cupel.cli.app import program  # noqa: E402
from cupel.lab import (  # noqa: E402
    RunFolder,
    differing_streams,
    execute_run,
    load_recipe,
    plan_run,
    read_jsonl,
)
from tests.gsm8k_bed import SOURCE, save_model, write_gsm8k  # noqa: E402
from tests.rlvr.toy_runs import Ran, toy_run  # noqa: E402

SIZES: dict[str, Any] = {"width": 32, "layers": 2, "vocabulary": 300, "spread": 0.15, "ends": 6.0}
"""A model made in milliseconds, some of whose completions end by themselves."""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of a run on a small model and word problems."""
    root = tmp_path_factory.mktemp("bed")
    save_model(root / "model", **SIZES)
    write_gsm8k(root / "problems.jsonl", 40)
    return {
        "backend": "torch",
        "model": str(root / "model"),
        "batch_size": 2,
        "group_size": 4,
        "max_tokens": 16,
        "temperature": 1.0,
        "lr": 1e-2,
        "problems": {**SOURCE, "path": str(root / "problems.jsonl"), "grading": "string"},
        "evaluation": {"problems": 2, "greedy": False, "every": 100},
        # an untrained model solves nothing, and a batch baseline learns from lengths alone
        "advantage_mode": "reinforce_pp",
        "overlong_buffer_rate": 1.0,
        "transform_mode": "gtpo",
    }


def adapter_run(folder: Path, bed: dict[str, Any], **changes: Any) -> Ran:
    policy = {"lora": {"rank": 4}, **changes.pop("policy", {})}
    return toy_run(folder, **{**bed, "max_steps": 4, "save_every": 1, "policy": policy, **changes})


def test_a_run_stopped_between_two_checkpoints_ends_in_the_same_bytes(
    tmp_path: Path, bed: dict[str, Any]
) -> None:
    """Adapters, moments, schedule, KL reference and every generator pass through the checkpoint."""
    settings = {
        "lr_schedule": "cosine",
        "lr_warmup_steps": 1,
        "loss": {"kl_coef": 0.1},
    }
    whole = adapter_run(tmp_path / "whole", bed, **settings)
    assert whole.state["status"] == "done", whole.state["failure"]
    assert [row["status"] for row in whole.steps] == ["trained"] * 4
    assert [row["learning_rate"] for row in whole.steps] == pytest.approx(
        [1e-2, 1e-2, 0.75e-2, 0.25e-2]
    )
    assert [row["reference_kl"] > 0 for row in whole.steps] == [False, True, True, True]
    assert whole.steps[0]["ratio_mean"] == 1.0
    broken = adapter_run(tmp_path / "broken", bed, **settings)
    (broken.folder / "result.json").unlink()
    newest = broken.folder / "checkpoints/step_000004/adapter_model.safetensors"
    newest.write_bytes(b"torn")
    assert execute_run(broken.folder, fsync=False) == "done"
    events = [event["message"] for event in broken.state["events"]]
    assert "continued from the checkpoint of step 3" in events
    assert differing_streams(broken.folder, whole.folder) == []
    assert broken.result == whole.result


def test_the_command_line_trains_adapters_and_goes_on_from_them(
    tmp_path: Path, bed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [
        *("--backend", "torch", "--max-steps", 2, "--batch-size", 2, "--group-size", 4),
        *("--max-tokens", 16, "--temperature", 1, "--lr", 0.01, "--save-every", 1),
        *("--advantage-mode", "reinforce_pp", "--overlong-buffer-rate", 1),
        *("--transform-mode", "gtpo", "--eval-problems", 2, "--eval-every", 100, "--seed", 3),
    ]
    problems = [
        word
        for key, value in bed["problems"].items()
        for word in (f"--problems.{key.replace('_', '-')}", value)
    ]

    def train(*words: object) -> Any:
        line = ["train", *flags, *problems, *words]
        return CliRunner().invoke(program, [str(word) for word in line])

    done = train("--model", bed["model"], "--lora-rank", 8, "--log-dir", "first")
    assert done.exit_code == 0, done.output
    assert json.loads(Path("first/config.json").read_text())["passed"]["policy"] == {
        "lora": {"rank": 8}
    }
    rows = read_jsonl(Path("first/metrics.jsonl"))
    assert [row["status"] for row in rows] == ["trained", "trained"]
    said = next(
        json.loads(event["message"].removeprefix("policy: "))
        for event in read_jsonl(Path("first/events.jsonl"))
        if event["message"].startswith("policy: ")
    )
    assert (said["lora"]["rank"], said["lora"]["alpha"]) == (8, 16)
    assert said["trainable_parameters"] < said["parameters"] / 2
    assert len(said["lora"]["base_sha256"]) == 64
    adapters = Path("first/checkpoints/step_000002").resolve()
    again = train("--model", adapters, "--lora-rank", 8, "--log-dir", "second")
    assert again.exit_code == 0, again.output
    merged = train("--model", adapters, "--log-dir", "third")
    assert merged.exit_code == 0, merged.output
    wrong = train("--model", adapters, "--lora-rank", 4, "--log-dir", "fourth")
    assert wrong.exit_code != 0
    assert "lora.rank = 4" in wrong.stderr


def test_a_changed_base_stops_a_resumed_run(tmp_path: Path, bed: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {
        "width": 32,
        "layers": 2,
        "vocabulary": 300,
        "spread": 0.15,
        "ends": 6.0,
    }
    model = save_model(tmp_path / "model", **sizes)
    ran = adapter_run(tmp_path / "run", bed, model=str(model), max_steps=1)
    (ran.folder / "result.json").unlink()
    save_model(model, **SIZES, seed=7)
    assert execute_run(ran.folder, fsync=False) == "failed"
    assert "has other weights" in ran.state["failure"]["message"]


def test_bfloat16_passes_its_gate(tmp_path: Path, bed: dict[str, Any]) -> None:
    ran = adapter_run(tmp_path, bed, max_steps=2, policy={"dtype": "bfloat16"})
    assert ran.state["status"] == "done", ran.state["failure"]
    assert abs(ran.steps[0]["sampler_ratio_mean"] - 1) < 0.02


def test_adapters_are_evaluated_as_their_training_did(tmp_path: Path, bed: dict[str, Any]) -> None:
    asked = {"problems": 3, "samples": 8, "pass_at": [1, 8], "every": 100}
    ran = adapter_run(tmp_path / "run", bed, loss={"kl_coef": 0.1}, evaluation=asked)
    assert ran.state["status"] == "done", ran.state["failure"]
    recipe = "cupel.rlvr.evaluation_recipe:RECIPE"
    found = toy_run_of(recipe, tmp_path / "e", checkpoint=str(ran.folder))
    (row,), last = found.evaluations, ran.evaluations[-1]
    for key in ("accuracy", "pass@8", "completion_length_mean", "max_token_hit_rate"):
        assert row[key] == last[key], key
    assert row["step"] == last["step"] == 4
    assert row["weights_sha256"] == ran.result["weights_sha256"]
    folder = tmp_path / "adapters"
    shutil.copytree(ran.folder / "checkpoints/step_000004", folder)
    (folder / "state.json").unlink()
    settings = {key: bed[key] for key in ("backend", "max_tokens", "problems")}
    merged = toy_run_of(
        recipe, tmp_path / "m", model=str(folder), evaluation=asked_of(asked), **settings
    )
    assert merged.evaluations[0]["completion_length_mean"] == pytest.approx(
        row["completion_length_mean"], rel=0.2
    )


def asked_of(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return what an evaluation after training can be asked."""
    return {key: value for key, value in evaluation.items() if key != "every"}


def toy_run_of(recipe: str, folder: Path, **settings: Any) -> Ran:
    """Plan and execute one run of a recipe, without the settings of a small training."""
    spec = plan_run(load_recipe(recipe), recipe, passed=settings, seed=1, condition="e")
    RunFolder(folder).create(spec)
    assert execute_run(folder, fsync=False) == "done", RunFolder(folder).state()["failure"]
    return Ran(folder=folder)
