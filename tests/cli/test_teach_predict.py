"""`cupel teach predict` and `cupel teach select`, through the real command line on corridor labels
and a real small model."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cupel.cli.app import program
from cupel.lab.files import read_json
from cupel.teach.labelling.files import LINES, read_labels, write_labels
from cupel.teach.splits import split_of
from cupel.teach.training.summary import read_training_summary
from tests.cli.conftest import Invoke, says_one_line
from tests.teach.small_language import small_model
from tests.teach.teach_labels import labelled

QUICK = (
    "--embedding-dim", 32, "--epochs", 5, "--folds", 3,
    "--set", "predictor.hidden=[16]", "--set", "predictor.models=['ridge','mlp']",
)  # fmt: skip
BUDGET = 12


def call(*words: object) -> str:
    result = CliRunner().invoke(program, [str(word) for word in words])
    assert result.exit_code == 0, (result.output, result.stderr)
    return result.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels, a trained predictor, a model, and a finished selection study."""
    folder = tmp_path_factory.mktemp("select")
    rows = [
        replace(row, hint=replace(row.hint, rationale="the floor is weak"))
        for row in labelled(60, rollouts=16)
    ]
    write_labels(folder, rows)
    small_model(folder / "base")
    labels = folder / LINES
    call("teach", "predict", "--labeled-snapshots", labels, "--output-dir", folder / "p4", *QUICK)
    call(
        "teach", "select", "--labeled-snapshots", labels, "--predictor-path",
        folder / "p4" / "predictor" / "model.pt", "--budget", BUDGET, "--output-dir", folder / "p5",
        "--seeds", "1,2", "--n-tasks", 4, "--n-snapshots-per-quadrant", 2, "--max-steps", 8,
        "--set", f"student.model={folder / 'base'}", "--set", "sft.epochs=2",
        "--executor", "inline", "--no-figures",
    )  # fmt: skip
    return folder


def test_predict_says_gates_and_ceilings(world: Path) -> None:
    out = call(
        "teach", "predict", "--labeled-snapshots", world / LINES, "--output-dir", world / "p4",
        *QUICK, "--json",
    )  # fmt: skip
    told = json.loads(out)
    assert [gate["name"] for gate in told["gates"]][:2] == ["R2(uncertainty)", "R2(leverage)"]
    assert (
        told["values"]["n_samples"] == read_json(world / "p4/evaluation_metrics.json")["n_samples"]
    )


def test_a_strict_predict_exits_with_one_when_a_gate_says_no(world: Path) -> None:
    result = CliRunner().invoke(
        program,
        [
            str(word)
            for word in (
                "teach", "predict", "--labeled-snapshots", world / LINES,
                "--output-dir", world / "p4", *QUICK, "--strict",
            )
        ],
    )  # fmt: skip
    gates = read_json(world / "p4" / "evaluation_metrics.json")["gates"]
    assert any(gate["passed"] is False for gate in gates)
    assert result.exit_code == 1
    assert "of ceiling" in result.stdout


def test_the_documented_files_of_a_selection_are_there(world: Path) -> None:
    folder = world / "p5"
    config = read_json(folder / "selection_config.json")
    assert (config["budget_k"], config["supervision_format"]) == (BUDGET, "demo")
    rows = list(csv.DictReader((folder / "selection_comparison.csv").read_text().splitlines()))
    assert list(rows[0])[:6] == [
        "method", "n_selected", "n_examples", "uncertainty_mean", "elp_mean",
        "training_summary_path",
    ]  # fmt: skip
    assert [row["method"] for row in rows] == ["random", "entropy", "predictor", "oracle"]
    assert {(row["n_selected"], row["n_examples"]) for row in rows} == {(str(BUDGET),) * 2}
    summary = read_json(folder / "selection_summary.json")
    assert summary["n_input_records"] == len(read_labels(world / LINES))
    for method in summary["methods"]:
        assert sum(method["stats"]["quadrant_distribution"].values()) == BUDGET
    for row in rows:
        place = folder / row["method"]
        selected = json.loads((place / "selected_snapshots.json").read_text())
        assert set(selected[0]) >= {"snapshot_id", "quadrant", "uncertainty", "elp_net"}
        assert {split_of(one["task_id"]) for one in selected} == {"train"}
        data = json.loads((place / "training_data.json").read_text())
        assert [one["snapshot_id"] for one in data] == [one["snapshot_id"] for one in selected]
        result = read_json(place / "training_result.json")
        assert (result["status"], result["n_examples"]) == ("completed", BUDGET)
        trained = read_json(place / "training_summary.json")
        assert (trained["method"], trained["budget_k"]) == (row["method"], BUDGET)
        assert list(trained["model_paths"]) == [f"selection_{row['method']}"]
        assert len(read_training_summary(place / "training_summary.json").complete) == 2


def test_methods_choose_what_they_say(world: Path) -> None:
    folder = world / "p5"
    by_method = {
        row["method"]: row
        for row in csv.DictReader((folder / "selection_comparison.csv").read_text().splitlines())
    }
    largest = max(by_method, key=lambda name: float(by_method[name]["uncertainty_mean"]))
    assert largest == "entropy"
    assert max(by_method, key=lambda name: float(by_method[name]["oracle_value_mean"])) == "oracle"
    random = read_json(folder / "random" / "selected_by_seed.json")
    assert set(random["1"]) != set(random["2"])
    chosen = {
        frozenset(read_json(folder / name / "selected_by_seed.json")["1"]) for name in by_method
    }
    assert len(chosen) == 4


def test_the_order_is_told_with_paired_intervals_whatever_it_is(world: Path) -> None:
    told = read_json(world / "p5" / "selection_order.json")
    steps = [row for row in told["steps"] if row["outcome"] == "success_rate"]
    assert [(row["baseline"], row["candidate"]) for row in steps] == [
        ("BASE", "RANDOM"), ("RANDOM", "ENTROPY"), ("ENTROPY", "PREDICTOR"),
        ("PREDICTOR", "ORACLE"),
    ]  # fmt: skip
    for row in steps:
        assert row["n_seeds"] == 2
        assert row["difference"] == pytest.approx(row["candidate_mean"] - row["baseline_mean"])
        assert row["resolved"] == "unresolved"
        assert row["interval"] == [None, None]
    assert told["order"][str(BUDGET)]["success_rate"] == "unresolved"
    text = (world / "p5" / "selection_order.md").read_text()
    assert "PREDICTOR → ORACLE" in text
    verdict = read_json(world / "p5" / "analysis" / "significance.json")
    assert (verdict["baseline"], verdict["candidate"]) == ("RANDOM", "PREDICTOR")


def test_a_budget_beyond_the_pool_stops_before_anything_is_planned(
    world: Path, cupel: Invoke, tmp_path: Path
) -> None:
    out = tmp_path / "too_much"
    result = cupel(
        "teach", "select", "--labeled-snapshots", world / LINES, "--methods", "random,entropy",
        "--budget", 5000, "--output-dir", out,
    )  # fmt: skip
    says_one_line(result, "budget 5000", "the pool holds")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ("--predictor-path",)),
        (("--predictor-path", "nowhere/model.pt"), ("no such predictor", "cupel teach predict")),
        (("--methods", "random,best"), ("no method 'best'", "random")),
        (("--methods", "random", "--budget", "0"), ("--budget", "whole numbers")),
        (("--methods", "random", "--set", "selection.rule=all"), ("a selection fixes it",)),
    ],
)
def test_bad_input_is_one_line(
    world: Path, cupel: Invoke, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    result = cupel(
        "teach", "select", "--labeled-snapshots", world / LINES, "--output-dir", "out", *words
    )
    says_one_line(result, *parts)


def test_an_oracle_without_patch_tests_stops_and_is_not_entropy(
    world: Path, cupel: Invoke, tmp_path: Path
) -> None:
    rows = [replace(row, patch_test=None) for row in read_labels(world / LINES)]
    write_labels(tmp_path, rows)
    result = cupel(
        "teach", "select", "--labeled-snapshots", tmp_path / LINES, "--methods",
        "random,entropy,oracle", "--budget", 5, "--output-dir", "out",
    )  # fmt: skip
    says_one_line(result, "selection oracle", "patch test")


def test_labels_that_changed_since_training_are_refused(world: Path, tmp_path: Path) -> None:
    from cupel.errors import DataError
    from cupel.lab.store import read_study
    from cupel.teach.selection.results import write_selection

    labels = world / LINES
    before = labels.read_bytes()
    record = read_study(world / "p5")
    given = read_json(world / "p5" / "selection_config.json")
    rows = [replace(row, U=-(row.U or 0.0)) for row in read_labels(labels)]
    try:
        write_labels(world, rows)
        with pytest.raises(DataError, match="changed since"):
            write_selection(record, given)
    finally:
        labels.write_bytes(before)


def test_a_sweep_of_budgets_is_planned_with_its_largest_deciding(
    world: Path, cupel: Invoke
) -> None:
    result = cupel(
        "teach", "select", "--labeled-snapshots", world / LINES, "--methods",
        "random,entropy,oracle", "--budget", "5,10", "--output-dir", "sweep", "--dry-run",
        "--json", "--seeds", "1,2,3",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["primary"] == ["RANDOM_K10", "ORACLE_K10"]
    labels = {run["condition"] for run in told["runs"]}
    assert labels == {"BASE"} | {
        f"{m}_K{k}" for m in ("RANDOM", "ENTROPY", "ORACLE") for k in (5, 10)
    }
