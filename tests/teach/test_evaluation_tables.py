"""The five tables and the gates: documented columns, honest counts, pairs on the same starts."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from cupel.errors import DataError
from cupel.teach.evaluation.gates import candidate_of, gates
from cupel.teach.evaluation.judging import EpisodeRow, summary
from cupel.teach.evaluation.tables import (
    COLUMNS,
    Evidence,
    overall,
    per_quadrant,
    read_episodes,
    retention,
    stuckness_table,
    transfer_matrix,
    write_csv,
)
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.records import FORMATS
from tests.teach.evaluation_rows import row

MATRIX = [f"{quadrant}_{supervision}" for quadrant in QUADRANTS for supervision in FORMATS]


def tasks(model: str, pattern: str, **facts: int) -> list[EpisodeRow]:
    """Rows of tasks t0, t1, ...: 1 solved, 0 failed, x broken by an instrument."""
    meaning = {"1": True, "0": False, "x": None}
    return [row(model, f"t{i}", meaning[c], **facts) for i, c in enumerate(pattern)]


def evidence(*groups: list[EpisodeRow], solved: str = "") -> Evidence:
    rows = tuple(each for group in groups for each in group)
    return Evidence(rows=rows, retention=frozenset(solved.split()), asked=2)


def test_documented_columns_come_first_in_their_order(tmp_path: Path) -> None:
    found = evidence(tasks("BASE", "0101"), tasks("M", "0111"), solved="t1")
    for name, make in (
        ("overall_task_results.csv", overall),
        ("per_quadrant_results.csv", per_quadrant),
        ("transfer_matrix.csv", transfer_matrix),
        ("retention_results.csv", retention),
        ("stuckness_results.csv", stuckness_table),
    ):
        write_csv(tmp_path / name, make(found))
        header = (tmp_path / name).read_text().splitlines()[0].split(",")
        assert tuple(header[: len(COLUMNS[name])]) == COLUMNS[name]
        assert len(header) > len(COLUMNS[name])


def test_stuckness_columns_carry_the_names_that_tables_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "stuckness_results.csv", stuckness_table(evidence(tasks("BASE", "01"))))
    with (tmp_path / "stuckness_results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [each["dataset"] for each in rows] == ["tasks", "snapshots"]
    assert float(rows[0]["mean_repeat_rate"]) == 0.25
    assert float(rows[0]["mean_loop_rate"]) == 0.0
    assert rows[1]["mean_repeat_rate"] == ""


def test_a_table_without_a_documented_column_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mean_reward"):
        write_csv(tmp_path / "overall_task_results.csv", [{"model": "M", "n": 1}])


def test_broken_episodes_are_counted_apart_and_are_no_failures() -> None:
    table = overall(evidence(tasks("BASE", "0101"), tasks("M", "1x1x")))
    base, model = table
    assert (model["n"], model["n_errors"], model["success_rate"]) == (2, 2, 1.0)
    assert (base["n"], base["n_errors"], base["success_rate"]) == (4, 0, 0.5)
    assert model["delta_n"] == 2, "only tasks that both models were measured on are compared"
    assert model["delta_success"] == 1.0


def test_summary_leaves_broken_episodes_out() -> None:
    found = summary(tasks("M", "1x0"))
    assert (found["success_rate"], found["n_tasks"], found["n_errors"]) == (0.5, 2, 1)
    assert found["panel_success_rate"] is None


def test_overall_is_paired_and_corrected_over_models() -> None:
    base, better, same = "0000000000", "1111111110", "0000000000"
    table = overall(evidence(tasks("BASE", base), tasks("M", better), tasks("N", same)))
    found = {each["model"]: each for each in table}
    assert found["M"]["delta_success"] == 0.9
    assert found["M"]["p_mcnemar"] == 2 / 2**9
    assert found["N"]["p"] == 1.0
    assert found["M"]["p_holm"] == pytest.approx(2 * float(found["M"]["p"] or 0))
    assert found["BASE"]["delta_success"] is None


def test_training_seeds_are_averaged_before_anything_is_tested() -> None:
    table = overall(
        evidence(
            tasks("BASE", "0011"),
            tasks("M", "0111", train_seed=1),
            tasks("M", "1101", train_seed=2),
        )
    )
    model = table[1]
    assert (model["n"], model["n_seeds"], model["n_tasks"]) == (8, 2, 4)
    assert model["success_rate"] == 0.75
    assert model["seed_sd"] == 0.0
    assert model["p_mcnemar"] is None, "means over seeds are no successes"


def snapshots(model: str, effect: dict[str, bool]) -> list[EpisodeRow]:
    return [
        row(
            model,
            f"{quadrant}/{i}",
            effect.get(quadrant, i % 2 == 0),
            dataset="snapshots",
            quadrant=quadrant,
            task=f"{quadrant}/{i // 2}",
        )
        for quadrant in QUADRANTS
        for i in range(8)
    ]


def test_transfer_matrix_has_a_cell_for_every_model_and_quadrant_and_none_for_base() -> None:
    models = [*MATRIX, "B1_uniform", "B2_all"]
    rows = [snapshots(name, {"Q1_highU_highL": True}) for name in models]
    table = transfer_matrix(evidence(snapshots("BASE", {}), *rows))
    assert len(table) == 56
    assert {each["model"] for each in table} == set(models)
    first = table[0]
    assert first["train_quadrant"] == "Q1_highU_highL"
    assert first["supervision"] == "demo"
    assert (first["success_rate"], first["base_success"], first["delta_success"]) == (1.0, 0.5, 0.5)
    assert (first["n"], first["n_tasks"]) == (8, 4)
    assert table[-1]["train_quadrant"] == "all"


def test_holm_runs_over_the_whole_matrix() -> None:
    rows = [snapshots(name, {"Q1_highU_highL": True}) for name in MATRIX]
    table = transfer_matrix(evidence(snapshots("BASE", {}), *rows))
    smallest = min(float(each["p"] or 0) for each in table)
    assert min(float(each["p_holm"] or 0) for each in table) == min(1.0, smallest * 48)


def test_a_quadrant_without_failure_states_is_empty_and_says_so() -> None:
    only = [each for each in snapshots("BASE", {}) if each.quadrant != "Q3_lowU_lowL"]
    table = per_quadrant(evidence(only))
    third = next(each for each in table if each["quadrant"] == "Q3_lowU_lowL")
    assert (third["n"], third["success_rate"], third["n_asked"]) == (0, None, 2)


def test_retention_of_base_is_below_one_when_its_own_pass_chose_the_tasks() -> None:
    found = retention(
        evidence(tasks("BASE", "1101"), tasks("M", "1000"), solved="t0 t1 t2 nowhere")
    )
    base, model = found
    assert base["retention_success_rate"] == pytest.approx(2 / 3)
    assert base["retention_drop"] == 0.0
    assert (base["lo"], base["p"]) == (None, None), "BASE is compared with nobody"
    assert model["retention_drop"] == pytest.approx(1 / 3)
    assert model["n"] == 3
    assert model["p_holm"] is not None


def test_gates_tell_a_figure_from_an_established_figure() -> None:
    found = evidence(tasks("BASE", "01" * 10), tasks("M", "11" + "01" * 9), solved="t1 t3 t5 t7")
    judged = gates(found, overall=overall(found), retention=retention(found))
    assert judged["candidate"] == "M"
    by_name = {gate["gate"]: gate for gate in judged["gates"]}
    success = by_name["success"]
    assert success["figure"] == pytest.approx(0.05)
    assert (success["passed"], success["established"]) == (True, False)
    assert (by_name["retention"]["figure"], by_name["retention"]["passed"]) == (0.0, True)
    assert by_name["retention"]["established"] is False, "0 of 4 tasks lost leaves .60 possible"
    assert by_name["transfer_diagonal"]["passed"] is None
    assert judged["passed"] is False, "a gate without a figure is not passed"


def test_all_gates_pass_when_models_win_at_home_and_forget_nothing() -> None:
    groups = [tasks("BASE", "0" * 10 + "1" * 10), snapshots("BASE", {})]
    for name in MATRIX:
        home = next(quadrant for quadrant in QUADRANTS if name.startswith(quadrant))
        groups += [tasks(name, "00" + "1" * 18), snapshots(name, {home: True})]
    found = evidence(*groups, solved=" ".join(f"t{i}" for i in range(10, 20)))
    judged = gates(found, overall=overall(found), retention=retention(found))
    headline = {gate["gate"]: gate for gate in judged["gates"] if gate["headline"]}
    assert judged["candidate"] == "Q1_highU_highL_hint"
    assert judged["passed"] is True
    assert headline["transfer_diagonal"]["figure"] == pytest.approx(0.5)
    assert headline["transfer_diagonal"]["balanced"] is True
    assert headline["retention"]["figure"] == 0.0


def test_the_candidate_may_be_named() -> None:
    assert candidate_of(["BASE", "A", "B"], "B") == "B"
    assert candidate_of(["BASE"]) is None


def test_episode_rows_survive_the_disk(tmp_path: Path) -> None:
    import json

    rows = [*tasks("BASE", "01x"), *snapshots("M", {})]
    path = tmp_path / "episodes.jsonl"
    path.write_text("".join(json.dumps(each.to_row()) + "\n" for each in rows))
    assert read_episodes(path) == tuple(rows)
    path.write_text('{"model": "M"}\n')
    with pytest.raises(DataError, match=r"episodes\.jsonl:1"):
        read_episodes(path)


def test_probability_contrasts_use_only_starts_where_both_are_known() -> None:
    def known(model: str, values: list[float | None]) -> list[EpisodeRow]:
        return [row(model, f"t{i}", True, probability=p) for i, p in enumerate(values)]

    table = overall(evidence(known("BASE", [0.1, 0.2, None]), known("M", [0.4, None, 0.9])))
    assert math.isclose(float(table[1]["delta_probability"] or 0), 0.3)
    assert table[1]["n_probability"] == 2
