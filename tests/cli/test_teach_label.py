"""`cupel teach label` and its stages: documented flags, documented files, one-line mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke, says_one_line
from tests.teach.label_runs import corridor_moments, write_moments

MOCK = ("--mock-policy", "--mock-teacher", "--max-steps", "8")
STUDENT = ("--mock-policy", "--max-steps", "8")
ROW_KEYS = {"snapshot_id", "task_id", "split", "held_out", "snapshot", "U", "uncertainty_features",
            "leverage", "cpt", "depth", "quadrant"}  # fmt: skip


@pytest.fixture
def world(cupel: Invoke) -> Invoke:
    """A folder with mined corridor snapshots."""
    write_moments(Path("snapshots.jsonl"), corridor_moments(range(40)))
    return cupel


def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def load(path: str) -> Any:
    return json.loads(Path(path).read_text())


def test_the_smoke_command_needs_no_model_and_no_teacher(world: Invoke) -> None:
    done = world("teach", "label", "--snapshots", "snapshots.jsonl", "--output-dir", "smoke",
                 *MOCK, "--skip-leverage", "--skip-cpt")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = rows("smoke/labeled_snapshots.jsonl")
    assert set(found[0]) >= ROW_KEYS
    assert all(row["U"] is not None and row["leverage"] is None for row in found)
    assert {row["quadrant"] for row in found} == {"UNASSIGNED"}
    assert load("smoke/labeled_snapshots.json") == found
    facts = load("smoke/labeling_metadata.json")
    assert facts["teacher"]["mock"] is True
    assert facts["labeling"]["skip_leverage"] is True


def test_one_command_labels_everything_with_the_documented_flags(world: Invoke) -> None:
    done = world("teach", "label", "--snapshots", "snapshots.jsonl", "--output-dir", "p1",
                 "--student-checkpoint", "uniform", "--expert-checkpoint", "expert",
                 "--teacher-model", "gpt-4o-mini", "--skip-api", "--assign-quadrants",
                 "--primary-uncertainty", "margin", "--U-threshold", "0.9", "--L-threshold", "0.1",
                 "--threshold-method", "manual", "--min-per-quadrant", "1", "--max-steps", "8",
                 "--resume")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "symbolic expert answers instead of gpt-4o-mini" in done.stderr
    cuts = load("p1/quadrant_thresholds_auto.json")
    assert (cuts["U_threshold"], cuts["L_threshold"], cuts["method"]) == (0.9, 0.1, "manual")
    for row in rows("p1/labeled_snapshots.jsonl"):
        assert row["U"] == row["uncertainty_features"]["margin"]
        high = row["U"] > 0.9, row["leverage"]["L_local"] > 0.1
        assert row["quadrant"].startswith(
            {(True, True): "Q1", (True, False): "Q2", (False, False): "Q3", (False, True): "Q4"}[
                high
            ]
        )


def test_the_same_command_again_runs_nothing(world: Invoke) -> None:
    words = ("teach", "label", "--snapshots", "snapshots.jsonl", "--output-dir", "p1", *MOCK)
    assert world(*words).exit_code == 0
    before = Path("p1/labeled_snapshots.jsonl").stat().st_mtime_ns
    assert world(*words).exit_code == 0
    assert Path("p1/labeled_snapshots.jsonl").stat().st_mtime_ns == before
    says_one_line(world(*words, "--estimate", "monte_carlo"), "p1")


def test_stepwise_ends_where_the_single_command_does(world: Invoke) -> None:
    world("teach", "label", "--snapshots", "snapshots.jsonl", "--output-dir", "whole", *MOCK,
          "--no-assign-quadrants")  # fmt: skip
    first = world("teach", "hints", "--input", "snapshots.jsonl", "--output-dir", "steps",
                  "--mock-teacher", "--max-steps", "8")  # fmt: skip
    assert first.exit_code == 0, first.output
    for stage in ("uncertainty", "leverage", "patch"):
        done = world("teach", stage, "--input", "steps/labeled_snapshots.jsonl",
                     "--output-dir", "steps", *STUDENT)  # fmt: skip
        assert done.exit_code == 0, done.output
    done = world("teach", "depth", "--input", "steps/labeled_snapshots.jsonl",
                 "--output-dir", "steps", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert sum(json.loads(done.stdout)["counts"]["d_force"].values()) > 0
    assert rows("steps/labeled_snapshots.jsonl") == rows("whole/labeled_snapshots.jsonl")


def test_a_stage_called_again_does_not_undo_the_later_ones(world: Invoke) -> None:
    world("teach", "hints", "--input", "snapshots.jsonl", "--output-dir", "s", "--max-steps", "8")
    world("teach", "uncertainty", "--input", "s/labeled_snapshots.jsonl", "--output-dir", "s",
          *STUDENT)  # fmt: skip
    done = world("teach", "hints", "--input", "snapshots.jsonl", "--output-dir", "s",
                 "--max-steps", "8")  # fmt: skip
    assert done.exit_code == 0
    assert "no file was changed" in done.stderr
    assert all(row["U"] is not None for row in rows("s/labeled_snapshots.jsonl"))


def test_plots_suggest_cuts_and_quadrants_takes_them(world: Invoke) -> None:
    pytest.importorskip("matplotlib")
    world("teach", "label", "--snapshots", "snapshots.jsonl", "--output-dir", "p1", *MOCK)
    done = world("teach", "thresholds", "--input", "p1/labeled_snapshots.jsonl",
                 "--output-dir", "p1/threshold_plots")  # fmt: skip
    assert done.exit_code == 0, done.output
    names = {path.name for path in Path("p1/threshold_plots").iterdir()}
    assert names >= {"hist_U.png", "hist_L.png", "scatter_U_L.png", "quantiles.json"}
    quantiles = load("p1/threshold_plots/quantiles.json")
    assert set(quantiles["U"]) >= {"min", "p10", "p25", "median", "p75", "p90", "max", "mean",
                                   "std"}  # fmt: skip
    assert quantiles["suggested_thresholds"]["p75"]["L_local"] == quantiles["L_local"]["p75"]
    done = world("teach", "quadrants", "--input", "p1/labeled_snapshots.jsonl",
                 "--output-dir", "p1", "--U-threshold", "1.0", "--L-threshold", "0.1",
                 "--min-per-quadrant", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    cuts = load("p1/quadrant_thresholds.json")
    assert (cuts["U_threshold"], cuts["L_threshold"], cuts["method"]) == (1.0, 0.1, "manual")
    found = rows("p1/labeled_snapshots.jsonl")
    assert {row["quadrant"] for row in found} >= {"Q1_highU_highL", "Q3_lowU_lowL"}
    assert sum(cuts["counts"].values()) == len(found)


def test_a_degenerate_cut_is_one_line(world: Invoke) -> None:
    world("teach", "label", "--snapshots", "snapshots.jsonl", "--output-dir", "p1", *MOCK)
    done = world("teach", "quadrants", "--input", "p1/labeled_snapshots.jsonl",
                 "--output-dir", "p1")  # fmt: skip
    says_one_line(done, "median of U", "lie exactly on it", "--U-threshold")


def test_a_degenerate_cut_leaves_a_labelling_unassigned_and_says_so(world: Invoke) -> None:
    done = world("teach", "label", "--snapshots", "snapshots.jsonl", "--output-dir", "p1", *MOCK)
    assert done.exit_code == 0
    assert "no quadrant was assigned" in done.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("label", "--snapshots", "none.jsonl", "--output-dir", "o"), ("none.jsonl", "no such")),
        (("leverage", "--input", "snapshots.jsonl", "--output-dir", "o", *STUDENT),
         ("need hints", "cupel teach hints")),
        (("depth", "--input", "snapshots.jsonl", "--output-dir", "o"), ("no row has leverage",)),
        (("thresholds", "--input", "snapshots.jsonl", "--output-dir", "o"), ("U and L_local",)),
        (("quadrants", "--input", "snapshots.jsonl", "--output-dir", "o"), ("nothing to fit on",)),
        (("label", "--snapshots", "snapshots.jsonl", "--output-dir", "o", "--mock-policy",
          "--student-checkpoint", "x"), ("--mock-policy", "--student-checkpoint")),
        (("label", "--snapshots", "snapshots.jsonl", "--output-dir", "o", *MOCK, "--environment",
          "shop"), ("taken in corridor", "this is shop")),
        (("label", "--snapshots", "snapshots.jsonl", "--output-dir", "o", *MOCK, "--set",
          "estimat=exact"), ("estimat", "estimate")),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    world: Invoke, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    says_one_line(world("teach", *words), *parts)


@pytest.mark.parametrize(
    "name",
    ["label", "hints", "uncertainty", "leverage", "patch", "depth", "thresholds", "quadrants"],
)
def test_every_help_has_examples(cupel: Invoke, name: str) -> None:
    shown = cupel("teach", name, "--help")
    assert shown.exit_code == 0
    assert f"cupel teach {name}" in shown.output.split("Examples:")[1]
