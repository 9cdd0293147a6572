"""`cupel teach validate`: documented flags, both exit codes of the verdict, errors in a line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cupel.teach.labelling.files import LINES, read_labels, write_labels
from cupel.teach.labelling.labels import QUADRANTS, Estimate
from tests.cli.conftest import Invoke, says_one_line
from tests.teach.small_language import small_model
from tests.teach.teach_labels import labelled

FLAGS = ("--n-per-quadrant", 3, "--n-steps", 1, "--rollout-max-steps", 8, "--set",
         "micro.lora_rank=0")  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("validate")
    rows = [
        replace(row, hint=replace(row.hint, diagnosis="too soon", rationale="the floor is weak"))
        for row in labelled(160, 2)
        if row.hint is not None and row.hint.suggested_action is not None
    ]
    write_labels(folder, rows)
    return {"labels": folder / LINES, "model": small_model(folder / "base")}


def call(cupel: Invoke, world: dict[str, Path], *more: object) -> Any:
    return cupel(
        "teach", "validate", "--labeled", world["labels"], "--base-model", world["model"],
        "--output-dir", "out", *FLAGS, *more,
    )  # fmt: skip


def test_the_documented_flags_give_both_files_and_the_verdict_is_the_exit_code(
    cupel: Invoke, world: dict[str, Path]
) -> None:
    result = call(cupel, world, "--learning-rate", 1e-2, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["proceed"] else 1)
    micro = json.loads(Path("out/micro_training_results.json").read_text())
    assert micro["config"]["micro"]["learning_rate"] == 1e-2
    assert micro["config"]["micro"]["n_steps"] == 1
    assert len(micro["results"]) == found["n"]


def test_revise_is_exit_code_1_with_its_reasons(cupel: Invoke, world: dict[str, Path]) -> None:
    result = call(cupel, world, "--learning-rate", 1e-9)
    assert result.exit_code == 1, result.output
    assert "verdict: revise" in result.output
    assert "raise micro.learning_rate" in result.output
    assert json.loads(Path("out/run.json").read_text())["status"] == "done"


def test_labels_that_foretell_the_effects_are_exit_code_0(
    cupel: Invoke, world: dict[str, Path], tmp_path: Path
) -> None:
    call(cupel, world)
    effects = {
        row["snapshot_id"]: row["delta_success_rate"]
        for row in json.loads(Path("out/micro_training_results.json").read_text())["results"]
    }
    middle = sorted(effects.values())[len(effects) // 2]
    told = []
    for row in read_labels(world["labels"]):
        if row.id in effects and row.patch_test is not None:
            gain = Estimate(value=effects[row.id], lo=effects[row.id], hi=effects[row.id])
            route = row.patch_test.route_net
            gains = {**row.patch_test.gain_net, route: gain}
            high = effects[row.id] > middle
            told.append(
                replace(
                    row,
                    patch_test=replace(row.patch_test, gain_net=gains, ELP_net=gain.value),
                    quadrant=QUADRANTS[0] if high else QUADRANTS[1],
                )
            )
    (tmp_path / "told").mkdir()
    write_labels(tmp_path / "told", told)
    result = cupel(
        "teach", "validate", "--labeled", tmp_path / "told" / LINES, "--base-model",
        world["model"], "--output-dir", "again", *FLAGS, "--n-per-quadrant", 50,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "verdict: proceed" in result.output


def test_labels_that_are_not_there_are_one_line(cupel: Invoke, world: dict[str, Path]) -> None:
    result = cupel("teach", "validate", "--labeled", "nowhere.jsonl", "--output-dir", "out")
    says_one_line(result, "nowhere.jsonl", "no such file")
    assert not Path("out").exists()


def test_a_split_that_is_unknown_is_one_line(cupel: Invoke, world: dict[str, Path]) -> None:
    result = call(cupel, world, "--splits", "calibraton")
    says_one_line(result, "calibraton", "calibration")
    assert not Path("out").exists()
