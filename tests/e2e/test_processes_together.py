"""One run in several processes, and one study under every executor, training small adapters."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="needs the extra 'lora'"
)

from cupel.cli.executor import TOGETHER  # noqa: E402
from cupel.config import validate  # noqa: E402
from cupel.errors import ConfigError, UsageError  # noqa: E402
from cupel.lab import (  # noqa: E402
    StudyConfig,
    differing_streams,
    execute_study,
    load_recipe,
    plan_study,
    read_jsonl,
    write_plan,
)
from cupel.lab.executors.options import RayOptions, TorchrunOptions  # noqa: E402
from cupel.policy import build_policy  # noqa: E402
from cupel.rlvr.evaluation_config import EvaluateConfig, with_defaults  # noqa: E402
from tests.gsm8k_bed import SOURCE, save_model, write_gsm8k  # noqa: E402

STREAMS = ("metrics.jsonl", "evaluations.jsonl", "emergence/generations.jsonl")
TIMES = ("sample_time_s", "train_time_s", "step_time_s", "eval_time_s", "tokens_per_second")


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A study of adapters on a small model and word problems."""
    root = tmp_path_factory.mktemp("bed")
    save_model(root / "model", width=32, layers=2, vocabulary=300, spread=0.15, ends=6.0)
    write_gsm8k(root / "problems.jsonl", 40)
    return {
        "name": "together",
        "question": "Does the loss matter?",
        "recipe": "rlvr.train",
        "seeds": [1, 2],
        "config": {
            "backend": "torch",
            "model": str(root / "model"),
            "policy": {"lora": {"rank": 4}, "matmul_precision": "highest"},
            "batch_size": 3,
            "group_size": 4,
            "max_tokens": 12,
            "temperature": 1.0,
            "lr": 1e-2,
            "problems": {**SOURCE, "path": str(root / "problems.jsonl"), "grading": "string"},
            "evaluation": {"problems": 3, "greedy": False, "every": 2},
            "advantage_mode": "reinforce_pp",
            "overlong_buffer_rate": 1.0,
            "max_steps": 3,
            "save_every": 1,
        },
        "conditions": [
            {"label": "plain", "config": {"transform_mode": "none"}},
            {"label": "weighted", "config": {"transform_mode": "gtpo", "loss": {"kl_coef": 0.1}}},
        ],
    }


def plan(bed: dict[str, Any], folder: Path) -> None:
    study = StudyConfig.model_validate(bed)
    write_plan(plan_study(study, load_recipe(study.recipe)), folder)


def one_run(bed: dict[str, Any]) -> dict[str, Any]:
    return {**bed, "seeds": [1], "conditions": bed["conditions"][1:]}


def together(ranks: int = 2) -> TorchrunOptions:
    return TorchrunOptions(program=TOGETHER, ranks=ranks)


def run_folders(study: Path) -> list[Path]:
    return sorted((study / "runs").iterdir())


def assert_alike(folder: Path, other: Path) -> None:
    """Words are equal, numbers up to the order of sums."""
    for stream in STREAMS:
        rows, others = (list(read_jsonl(path / stream)) for path in (folder, other))
        assert len(rows) == len(others) > 0
        for row, same in zip(rows, others, strict=True):
            for name, value in row.items():
                if isinstance(value, float) and name not in TIMES:
                    assert same[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
                elif name not in TIMES:
                    assert same[name] == value, name


def test_a_run_in_two_processes_is_that_of_one(tmp_path: Path, bed: dict[str, Any]) -> None:
    for name in ("alone", "together"):
        plan(one_run(bed), tmp_path / name)
    alone = execute_study(tmp_path / "alone", executor="inline")
    heard: list[str] = []
    shared = execute_study(
        tmp_path / "together",
        executor="torchrun",
        options=together(),
        progress=lambda event: heard.append(event.status),
    )
    assert alone.is_complete
    assert shared.is_complete, shared.failed
    assert heard[0] == "running"
    assert heard[-1] == "done"
    (ours,), (theirs,) = run_folders(tmp_path / "together"), run_folders(tmp_path / "alone")
    assert_alike(ours, theirs)
    assert '"processes":2' in (ours / "events.jsonl").read_text().replace(" ", "").replace("\\", "")


def test_processes_without_work_to_share_are_refused(tmp_path: Path, bed: dict[str, Any]) -> None:
    plan(bed, tmp_path / "study")
    with pytest.raises(ConfigError, match="torchrun"):
        execute_study(tmp_path / "study", executor="torchrun")
    with pytest.raises(ConfigError, match="at least 1"):
        together(0)


def test_a_recipe_for_one_process_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "lab")
    study = {"name": "one", "recipe": "lab_toy_recipe:RECIPE", "seeds": [1]}
    plan({**study, "conditions": [{"label": "still"}]}, tmp_path / "study")
    with pytest.raises(UsageError, match="runs in one process, not in 2"):
        execute_study(tmp_path / "study", executor="torchrun", options=together())
    assert [path.name for path in tmp_path.rglob("torchrun.log")] == []


def test_a_launch_that_fails_is_told_by_its_own_attempts_words(
    tmp_path: Path, bed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "luckless.py").write_text("raise SystemExit('error: out of luck')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    plan(one_run(bed), tmp_path / "study")
    (run,) = run_folders(tmp_path / "study")
    luckless = TorchrunOptions(program="luckless", ranks=1)
    outcome = execute_study(tmp_path / "study", executor="torchrun", options=luckless, retries=1)
    (failed,) = outcome.failed
    assert failed.failure is not None
    assert str(failed.failure["message"]).count("out of luck") == 1
    log = (run / "torchrun.log").read_text()
    assert log.count("error: out of luck") == 2, "both attempts are in the log"


@pytest.mark.slow
def test_a_study_is_the_same_under_processes_ray_and_torchrun(
    tmp_path: Path, bed: dict[str, Any]
) -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    ways: dict[str, dict[str, Any]] = {
        "processes": {"executor": "processes"},
        "ray": {"executor": "ray", "options": RayOptions(address="local")},
        "torchrun": {"executor": "torchrun", "options": together()},
    }
    for name, way in ways.items():
        plan(bed, tmp_path / name)
        outcome = execute_study(tmp_path / name, **way)
        assert outcome.is_complete, (name, outcome.failed)
    for ours, rays, shared in zip(*(run_folders(tmp_path / name) for name in ways), strict=True):
        assert differing_streams(rays, ours) == []
        assert_alike(shared, ours)


@pytest.mark.slow
def test_a_run_in_two_processes_goes_on_after_its_launcher_is_killed(
    tmp_path: Path, bed: dict[str, Any]
) -> None:
    for name in ("whole", "killed"):
        plan(one_run(bed), tmp_path / name)
    assert execute_study(tmp_path / "whole", executor="torchrun", options=together()).is_complete

    class Enough(Exception):
        """Raised by the listener: the study stops as on Ctrl-C."""

    def stop_after_a_step(event: Any) -> None:
        if event.row is not None:
            raise Enough

    with pytest.raises(Enough):
        execute_study(
            tmp_path / "killed",
            executor="torchrun",
            options=together(),
            progress=stop_after_a_step,
        )
    (run,) = run_folders(tmp_path / "killed")
    assert not (run / "result.json").exists()
    assert execute_study(tmp_path / "killed", executor="torchrun", options=together()).is_complete
    (whole,) = run_folders(tmp_path / "whole")
    assert differing_streams(run, whole) == []


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_a_run_whose_layers_are_divided_is_that_of_one_stopped_and_continued(
    tmp_path: Path, bed: dict[str, Any], rank: int
) -> None:
    run = one_run(bed)
    policy = {**bed["config"]["policy"], "lora": {"rank": rank}}
    for name, shard in (("alone", "none"), ("divided", "layers")):
        own = {"lr": 1e-3, "policy": {**policy, "shard": shard}}
        plan({**run, "config": {**run["config"], **own}}, tmp_path / name)
    assert execute_study(tmp_path / "alone", executor="inline").is_complete
    refused = execute_study(tmp_path / "divided", executor="inline")
    assert "in one process" in str(refused.failed)

    class Enough(Exception):
        """Raised by the listener: the study stops as on Ctrl-C."""

    def stop_after_a_step(event: Any) -> None:
        if event.row is not None:
            raise Enough

    way: dict[str, Any] = {"executor": "torchrun", "options": together()}
    with pytest.raises(Enough):
        execute_study(tmp_path / "divided", **way, progress=stop_after_a_step)
    (ours,), (theirs,) = run_folders(tmp_path / "divided"), run_folders(tmp_path / "alone")
    assert not (ours / "result.json").exists()
    outcome = execute_study(tmp_path / "divided", **way)
    assert outcome.is_complete, outcome.failed
    assert_alike(ours, theirs)
    last = max((ours / "checkpoints").glob("step_*"))
    whole = validate(EvaluateConfig, with_defaults({"checkpoint": str(last)}), where="here")
    policy_of_one = build_policy(
        whole.policy.of(whole.backend, whole.model), device="cpu", threads=1, seed=1
    )
    policy_of_one.load(last)
    result = json.loads((ours / "result.json").read_text())
    assert policy_of_one.weights_sha256() in str(result)
    assert '"shard":"layers"' in (ours / "events.jsonl").read_text().replace("\\", "")
