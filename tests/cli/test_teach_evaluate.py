"""`cupel teach train` and `cupel teach evaluate`: from labels to tables, by documented flags."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cupel.teach.labelling.files import LINES, write_labels
from cupel.teach.labelling.labels import LabelledMoment
from tests.cli.conftest import Invoke, says_one_line
from tests.teach.small_language import small_model
from tests.teach.teach_labels import labelled

SMALL = (
    "--base-model", "base", "--max-steps", "8", "--max-train-samples", "8",
    "--n-tasks", "4", "--n-snapshots-per-quadrant", "1",
    "--set", "sft.epochs=1", "--set", "sft.lora_rank=0", "--seeds", "1,2",
    "--executor", "inline", "--no-figures",
)  # fmt: skip
RUNS = ("--run-ids", "Q1_highU_highL_hint,Q4_lowU_highL_demo,B1_uniform")


def rows() -> list[LabelledMoment]:
    """Corridor labels whose hints say why."""
    return [
        replace(row, hint=replace(row.hint, diagnosis="too soon", rationale="the floor is weak"))
        for row in labelled(60)
        if row.hint is not None and row.hint.suggested_action is not None
    ]


@pytest.fixture
def world(cupel: Invoke) -> Invoke:
    """An empty folder with labels and a base model in it."""
    write_labels(Path(), rows())
    small_model(Path("base"))
    return cupel


def load(path: str) -> Any:
    return json.loads(Path(path).read_text())


@pytest.mark.slow
def test_from_labels_to_tables(world: Invoke) -> None:
    trained = world("teach", "train", "--labeled-snapshots", LINES, "--output-dir", "p2",
                    *SMALL, *RUNS)  # fmt: skip
    assert trained.exit_code == 0, trained.output
    summary = load("p2/training_summary.json")
    assert (summary["n_runs"], summary["n_completed"]) == (3, 3)
    assert all((Path("p2") / path).is_dir() for path in summary["model_paths"].values())
    assert sorted(summary["model_paths_by_seed"]) == ["1", "2"]
    assert [row["run_id"] for row in load("p2/training_matrix.json")] == RUNS[1].split(",")
    assert load("p2/training_meta.json")["base_model"] == "base"
    assert Path("p2/report.html").is_file()

    done = world("teach", "evaluate", "--training-summary", "p2/training_summary.json",
                 "--labeled-snapshots", LINES, "--output-dir", "p3", "--n-tasks", "5",
                 "--n-snapshots-per-quadrant", "2", "--max-steps", "8", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["candidate"] == "Q1_highU_highL_hint"
    assert told["values"]["models"] == 3
    facts = load("p3/eval_config.json")
    assert {each["train_seed"] for each in facts["models"]} == {1, 2}
    assert facts["trained_snapshots_known"] is True
    assert facts["evaluation"]["environment"]["name"] == "corridor"


@pytest.mark.slow
def test_a_failed_run_is_an_empty_path_and_the_rest_goes_on(
    world: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cupel.errors import AlgorithmicFailure
    from cupel.teach.training.sft import Trainer

    step: Callable[..., Any] = Trainer.step
    calls: list[int] = []

    def diverges_once(self: Trainer, *args: Any, **given: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise AlgorithmicFailure("loss is nan")
        return step(self, *args, **given)

    monkeypatch.setattr(Trainer, "step", diverges_once)
    result = world("teach", "train", "--labeled-snapshots", LINES, "--output-dir", "p2",
                   *SMALL, *RUNS)  # fmt: skip
    assert result.exit_code == 3, result.output
    summary = load("p2/training_summary.json")
    assert (summary["n_runs"], summary["n_completed"]) == (3, 2)
    assert "" in summary["model_paths"].values()
    assert any("loss is nan" in reason for reason in summary["failures"].values())
    done = world("teach", "evaluate", "--training-summary", "p2/training_summary.json",
                 "--labeled-snapshots", LINES, "--output-dir", "p3", "--n-tasks", "2",
                 "--n-snapshots-per-quadrant", "1", "--max-steps", "8")  # fmt: skip
    assert done.exit_code == 0, done.output


def test_a_dry_run_plans_and_runs_nothing(world: Invoke) -> None:
    result = world("teach", "train", "--labeled-snapshots", LINES, "--output-dir", "p2",
                   *SMALL, "--controls", "matched,shuffled", "--dry-run", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert len({run["condition"] for run in facts["runs"]}) == 1 + 14 + 4 + 1
    assert len(load("p2/training_matrix.json")) == 19
    assert not Path("p2/training_summary.json").exists()
    assert not list(Path("p2/runs").glob("*/metrics.jsonl"))


def test_an_experiment_file_in_the_documented_words(world: Invoke) -> None:
    settings = {"teacher": {"model": "gpt-4o-mini"}, "training": {"num_epochs": 2},
                "lora": {"r": 4, "target_modules": ["q_proj"]}}  # fmt: skip
    Path("experiment.json").write_text(json.dumps(settings))
    Path("experiment.toml").write_text(
        "[teacher]\nmodel = 'gpt-4o-mini'\n[training]\nnum_epochs = 2\n"
        "[lora]\nr = 4\ntarget_modules = ['q_proj']\n"
    )
    Path("experiment.yaml").write_text(
        "teacher:\n  model: gpt-4o-mini\ntraining:\n  num_epochs: 2\n"
        "lora:\n  r: 4\n  target_modules: [q_proj]\n"
    )
    locks = set()
    for kind in ("json", "toml", "yaml"):
        result = world("teach", "train", "--labeled-snapshots", LINES, "--output-dir", f"{kind}/p2",
                       "--config", f"experiment.{kind}", "--base-model", "base",
                       "--seed", "7", "--dry-run")  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "section 'teacher' belongs to another phase" in result.stderr
        locks.add(load(f"{kind}/p2/plan.lock")["sha256"])
    assert len(locks) == 1
    assert load("yaml/p2/plan.lock")["lock"]["seeds"] == [7]
    sft = load("yaml/p2/plan.lock")["lock"]["conditions"]["B2_all"]["sft"]
    assert (sft["epochs"], sft["lora_rank"], sft["lora_targets"]) == (2, 4, ["q_proj"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--run-ids", "Q1_highU_highL_hnt"), "did you mean 'Q1_highU_highL_hint'"),
        (("--controls", "dager"), "did you mean 'dagger'"),
        (("--controls", "dagger"), "needs --episodes"),
        (("--seeds", "1,x"), "'x' is not a seed"),
        (("--config", "bad.yaml"), "not valid YAML"),
        (("--config", "odd.toml"), "unknown section 'trainig'; did you mean 'training'"),
        (("--config", "odd.json"), "unknown key 'training.epocs'; did you mean 'epochs'"),
        (("--config", "odd.txt"), ".toml, .json, .yaml or .yml"),
    ],
)
def test_bad_training_flags_are_one_line(world: Invoke, words: tuple[str, ...], says: str) -> None:
    Path("bad.yaml").write_text("a: [")
    Path("odd.toml").write_text("[trainig]\nepochs = 1\n")
    Path("odd.json").write_text('{"training": {"epocs": 1}}')
    Path("odd.txt").write_text("")
    result = world("teach", "train", "--labeled-snapshots", LINES, "--output-dir", "p2", *words)
    says_one_line(result, says)
    assert not Path("p2").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--load-in-4bit",), "--load-in-4bit: quantised models are not supported"),
        (("--load-in-8bit",), "--load-in-8bit: quantised models are not supported"),
        (("--holdout-frac", "0.5"), "at most 0.2"),
        (("--panel-file", "panel.json"), "not of the panel split"),
        (("--run-ids", "N"), "no run 'N'"),
    ],
)
def test_bad_evaluation_flags_are_one_line(
    world: Invoke, words: tuple[str, ...], says: str
) -> None:
    Path("summary.json").write_text(json.dumps({"M": "base"}))
    trained = next(row for row in rows() if row.moment.split == "train")
    Path("panel.json").write_text(json.dumps([trained.id]))
    result = world(
        "teach", "evaluate", "--training-summary", "summary.json", "--labeled-snapshots", LINES,
        "--output-dir", "p3", "--base-model", "base", "--max-steps", "8", *words,
    )  # fmt: skip
    assert result.exit_code == 2, result.output
    assert says in result.stderr.splitlines()[-1]
    assert not Path("p3").exists(), "nothing is written, so the mended call may use the folder"


def test_an_established_no_is_an_exit_code_only_when_asked(world: Invoke) -> None:
    """The base model as its own candidate is not better than itself."""
    Path("summary.json").write_text(json.dumps({"M": "base"}))
    words = ("teach", "evaluate", "--training-summary", "summary.json", "--labeled-snapshots",
             LINES, "--output-dir", "p3", "--base-model", "base", "--max-steps", "8",
             "--n-tasks", "3", "--n-snapshots-per-quadrant", "1")  # fmt: skip
    asked = world(*words)
    assert asked.exit_code == 0, asked.output
    assert "only the splits by task keep training and evaluation apart" in asked.stderr
    assert world(*words, "--strict").exit_code == 1
    assert load("p3/gates.json")["passed"] is False
