"""The matrix: 14 documented runs, what each stands for, and the study file that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cupel.config import load_toml, validate
from cupel.errors import ConfigError, DataError
from cupel.lab.study import StudyConfig
from cupel.lab.study_dir import study_toml
from cupel.stats.multiplicity import holm_capacity
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.training.config import FinetuneConfig, with_student_defaults
from cupel.teach.training.matrix import (
    CONTROLS,
    MATRIX_RUNS,
    MATRIX_SEEDS,
    control_runs,
    matrix_study,
    run_settings,
    runnable,
)
from tests.teach.teach_labels import labelled

STUDIES = Path(__file__).parents[2] / "studies"


def test_the_matrix_has_the_documented_run_ids() -> None:
    assert len(MATRIX_RUNS) == 14
    assert MATRIX_RUNS[0] == "Q1_highU_highL_demo"
    assert MATRIX_RUNS[-3:] == ("Q4_lowU_highL_hint", "B1_uniform", "B2_all")


def test_every_run_and_control_is_a_valid_training() -> None:
    for run in [*MATRIX_RUNS, *control_runs(CONTROLS), "BASE"]:
        data = {"labels": "l.jsonl"} | run_settings(
            run, baseline_n_samples=7, max_train_samples=9, episodes="rollouts"
        )
        config = validate(FinetuneConfig, with_student_defaults(data), where=run)
        if run.startswith("Q"):
            assert run == f"{config.selection.quadrant}_{config.format}"
        if run == "B1_uniform":
            assert config.selection.baseline_n_samples == 7


def test_the_study_that_ships_is_the_one_that_is_built() -> None:
    built = validate(
        StudyConfig,
        matrix_study(labels="results/phase1/labeled_snapshots.jsonl"),
        where="built",
    )
    shipped = validate(StudyConfig, load_toml(STUDIES / "teach_matrix.toml"), where="shipped")
    assert shipped == built
    assert study_toml(shipped) == study_toml(built)


def test_its_seeds_are_enough_for_its_family() -> None:
    study = validate(StudyConfig, matrix_study(labels="l.jsonl"), where="built")
    assert study.primary == ("B1_uniform", "Q1_highU_highL_hint")
    assert len(study.decision.secondary) == 11
    assert holm_capacity(len(MATRIX_SEEDS)) >= 11
    assert study.endpoint.metric == "eval/success_rate"


def test_controls_are_compared_with_what_they_control() -> None:
    runs = [*MATRIX_RUNS, *control_runs(["matched"])]
    decision = matrix_study(labels="l", run_ids=runs)["decision"]
    assert ["matched_Q2_highU_lowL", "Q2_highU_lowL_demo"] in decision["secondary"]


@pytest.mark.parametrize(
    ("runs", "primary"),
    [
        (["Q2_highU_lowL_demo"], ("BASE", "Q2_highU_lowL_demo")),
        (["B1_uniform"], ("BASE", "B1_uniform")),
        (["B1_uniform", "B2_all"], ("B1_uniform", "B2_all")),
        (["Q1_highU_highL_hint", "B1_uniform", "Q3_lowU_lowL_demo"],
         ("B1_uniform", "Q1_highU_highL_hint")),
    ],
)  # fmt: skip
def test_a_part_of_the_matrix_has_a_primary_contrast_of_its_own(
    runs: list[str], primary: tuple[str, str]
) -> None:
    study = validate(StudyConfig, matrix_study(labels="l", run_ids=runs), where="part")
    assert study.primary == primary
    assert list(primary) not in [list(pair) for pair in study.decision.secondary]


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (["Q1_highU_highL_hnt"], "did you mean 'Q1_highU_highL_hint'"),
        (["B1_uniform", "B1_uniform"], "appears twice"),
        (["dagger"], "none were given"),
    ],
)
def test_a_run_that_cannot_be_is_refused(runs: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        matrix_study(labels="l", run_ids=runs)


SHARED = {"evaluation": {"environment": {"name": "corridor"}}}


def test_an_empty_quadrant_is_left_out_and_stops_nothing_else() -> None:
    labels = [row for row in with_reasons(60) if row.quadrant != "Q4_lowU_highL"]
    study, reasons = runnable(matrix_study(labels="l", shared=SHARED), labels)
    assert sorted(reasons) == [f"Q4_lowU_highL_{f}" for f in ("contrast", "demo", "hint")]
    assert "Q4_lowU_highL" in reasons["Q4_lowU_highL_demo"]
    kept = [each["label"] for each in study["conditions"]]
    assert len(kept) == 12
    assert "BASE" in kept
    assert len(study["decision"]["secondary"]) == 8


def test_a_matrix_with_nothing_to_train_on_is_refused() -> None:
    without = [replace(row, hint=None) for row in labelled(20)]
    with pytest.raises(DataError, match="no run of the matrix has anything to train on"):
        runnable(matrix_study(labels="l", shared=SHARED), without)


def with_reasons(n: int) -> list[LabelledMoment]:
    """Corridor labels whose hints say why, as notes of format hint need."""
    return [
        replace(row, hint=replace(row.hint, diagnosis="too soon", rationale="the floor is weak"))
        for row in labelled(n)
        if row.hint is not None and row.hint.suggested_action is not None
    ]
